#!/bin/bash
# Sound and pictures, which are isochronous: a speaker of QEMU's that records what it is sent, and a
# microphone and a camera that are processes of this guest (tests/vm/device). All of them carry a
# ramp in which no frame is like another. The guest's clock counts its own instructions, and it never
# idles, so a stream is late only by the bridge.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"
source "${BASH_SOURCE[0]%/*}/software.sh"

SPEAKER='46f4 0002'
SPEAKER_ID=usb:46f4:0002:LABSPEAKER1

PCM=(-t raw -f S16_LE -r 48000 -c 2)
RATE=48000

# A picture comes every 32 ms and is a ramp of so many frames.
PICTURE_MS=32
FULL_SPEED_PICTURE=2048
HIGH_SPEED_PICTURE=8160

# vhci has no frame number; it says so at the level of errors whenever a driver asks for it.
NO_FRAME_NUMBER='usb usb[0-9]+: Not yet implemented'

prepare() {
    modprobe vhci-hcd
    make_namespaces
    # While the processor idles the guest's clock follows the host's, which jumps when the host is busy.
    chrt --idle 0 bash -c 'while :; do :; done' &
}

# The number of the sound card that a USB device has.
card_of() {
    local found
    found=$(find "$1/" -path '*/sound/card*' -name 'card[0-9]*' | head -n 1)
    [[ -e /dev/snd/controlC${found##*card} ]] && echo "${found##*card}"
}

# no_xrun LOG
no_xrun() {
    if grep -Eiq 'underrun|overrun|xrun' "$1"; then fail "$(grep -Ei 'run' "$1" | head -n 1)"; fi
}

# play SECONDS USB-DIRECTORY: and the speaker has got every frame once, in order. What it records is
# written in blocks, so silence comes last.
play() {
    local card before frames=$(($1 * RATE))
    allow_kernel "$NO_FRAME_NUMBER"
    must_come 30 "the sound card of $2" card_of "$2"
    card=$(card_of "$2")
    before=$(stat -c %s "$LAB_SCRATCH/speaker.wav")
    tool write-ramp "$CASE_DIR/ramp" $((RATE / 10)) $frames $RATE
    aplay --fatal-errors -D "hw:$card,0" "${PCM[@]}" "$CASE_DIR/ramp" >"$CASE_DIR/aplay.log" 2>&1 ||
        fail "aplay: $(tail -n 1 "$CASE_DIR/aplay.log")"
    no_xrun "$CASE_DIR/aplay.log"
    tail -c "+$((before + 1))" "$LAB_SCRATCH/speaker.wav" >"$CASE_DIR/heard"
    expect_eq "the frames that came to the speaker" "1 $frames" "$(tool find-ramp "$CASE_DIR/heard")"
}

# has_no_gap FILE FRAMES
has_no_gap() {
    local first last
    tool find-ramp "$1" >"$CASE_DIR/found.log" || fail "$1: $(tail -n 1 "$CASE_DIR/found.log")"
    read -r first last <"$CASE_DIR/found.log"
    expect_eq "frames in a row" "$2" $((last - first + 1))
}

# record SECONDS USB-DIRECTORY
record() {
    local card
    allow_kernel "$NO_FRAME_NUMBER"
    must_come 30 "the sound card of $2" card_of "$2"
    card=$(card_of "$2")
    arecord --fatal-errors -D "hw:$card,0" "${PCM[@]}" -d "$1" "$CASE_DIR/recorded" \
        >"$CASE_DIR/arecord.log" 2>&1 || fail "arecord: $(tail -n 1 "$CASE_DIR/arecord.log")"
    no_xrun "$CASE_DIR/arecord.log"
    has_no_gap "$CASE_DIR/recorded" $(($1 * RATE))
}

# film SECONDS FRAMES-IN-PICTURE USB-DIRECTORY: a picture with a missing packet is dropped by the
# driver, and the next one does not go on where the last one ended.
film() {
    local pictures=$(($1 * 1000 / PICTURE_MS))
    must_come 30 "the video device of $3" node_below "$3" video4linux
    v4l2-ctl -d "$(node_below "$3" video4linux)" --stream-mmap=8 --stream-count=$pictures \
        --stream-to="$CASE_DIR/filmed" >"$CASE_DIR/v4l2-ctl.log" 2>&1 ||
        fail "v4l2-ctl: $(tail -n 1 "$CASE_DIR/v4l2-ctl.log")"
    has_no_gap "$CASE_DIR/filmed" $((pictures * $2))
}

# A test of the other cases' means.
LIMIT_a_missing_frame=60
case_a_missing_frame() {
    tool write-ramp "$CASE_DIR/whole" 100 1000 100
    expect_eq "a whole ramp" "1 1000" "$(tool find-ramp "$CASE_DIR/whole")"
    { head -c 2000 "$CASE_DIR/whole" && tail -c +2005 "$CASE_DIR/whole"; } >"$CASE_DIR/torn"
    if tool find-ramp "$CASE_DIR/torn"; then fail "a missing frame was not found"; fi
    { cat "$CASE_DIR/whole" && head -c 800 "$CASE_DIR/whole"; } >"$CASE_DIR/twice"
    if tool find-ramp "$CASE_DIR/twice"; then fail "a second beginning was not found"; fi
}

LIMIT_streams_without_the_bridge=120
case_streams_without_the_bridge() {
    local owned
    # shellcheck disable=SC2086 # vendor and product are two words
    play 2 "$(owned_usb $SPEAKER)"
    plug_in microphone LABMIC1 snd-usb-audio
    record 2 "$owned"
    stop microphone
    plug_in camera LABCAM1 uvcvideo
    film 2 $FULL_SPEED_PICTURE "$owned"
    stop camera
    plug_in high-speed-camera LABCAM2 uvcvideo
    film 2 $HIGH_SPEED_PICTURE "$owned"
}

LIMIT_played=240
case_played() {
    bridge_up
    share $SPEAKER_ID
    # shellcheck disable=SC2086
    attach $SPEAKER_ID $SPEAKER
    # shellcheck disable=SC2086
    play 5 "$(remote_usb $SPEAKER)"
    # shellcheck disable=SC2086
    detach $SPEAKER_ID $SPEAKER snd-usb-audio
}

# A thousand URBs a second, which is what ALSA makes of any microphone.
LIMIT_recorded=300
case_recorded() {
    local owned
    plug_in microphone LABMIC1 snd-usb-audio
    bridged LABMIC1 snd-usb-audio record 5
}

LIMIT_filmed=300
case_filmed() {
    local owned
    plug_in camera LABCAM1 uvcvideo
    bridged LABCAM1 uvcvideo film "$(rounds 10 60)" $FULL_SPEED_PICTURE
}

film_at_high_speed() {
    expect_eq "the twin's speed" 480 "$(<"${*: -1}/speed")"
    probed
    film "$@"
}

# A URB has 32 packets and takes 4 ms.
LIMIT_filmed_at_high_speed=300
case_filmed_at_high_speed() {
    local owned
    plug_in high-speed-camera LABCAM2 uvcvideo
    bridged LABCAM2 uvcvideo film_at_high_speed "$(rounds 5 20)" $HIGH_SPEED_PICTURE
}

run_cases "$@"
