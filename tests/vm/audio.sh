#!/bin/bash
# Sound, which is isochronous: a speaker of QEMU's that records what it is sent, and a microphone
# that is a process of this guest (tests/vm/device). Both carry a ramp in which no frame is like
# another. The guest's clock counts its own instructions, so a stream is late only by the bridge.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

SPEAKER='46f4 0002'
SPEAKER_ID=usb:46f4:0002:LABSPEAKER1
MICROPHONE='1209 0001'
MICROPHONE_ID=usb:1209:0001:LABMIC1

PCM=(-t raw -f S16_LE -r 48000 -c 2)
RATE=48000

# vhci has no frame number; it says so at the level of errors whenever a driver asks for it.
NO_FRAME_NUMBER='usb usb[0-9]+: Not yet implemented'

prepare() {
    modprobe vhci-hcd
    make_namespaces
}

tool() { "$VM_TOOLS" --tool "$@"; }

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

# record SECONDS USB-DIRECTORY: not one frame is missing.
record() {
    local card first last
    allow_kernel "$NO_FRAME_NUMBER"
    must_come 30 "the sound card of $2" card_of "$2"
    card=$(card_of "$2")
    arecord --fatal-errors -D "hw:$card,0" "${PCM[@]}" -d "$1" "$CASE_DIR/recorded" \
        >"$CASE_DIR/arecord.log" 2>&1 || fail "arecord: $(tail -n 1 "$CASE_DIR/arecord.log")"
    no_xrun "$CASE_DIR/arecord.log"
    tool find-ramp "$CASE_DIR/recorded" >"$CASE_DIR/found.log" ||
        fail "the recording: $(tail -n 1 "$CASE_DIR/found.log")"
    read -r first last <"$CASE_DIR/found.log"
    expect_eq "recorded frames" $(($1 * RATE)) $((last - first + 1))
}

plug_in_microphone() {
    start microphone "$VM_TOOLS" --tool microphone
    # shellcheck disable=SC2086 # vendor and product are two words
    must_come 30 "the microphone" remote_usb $MICROPHONE
    # shellcheck disable=SC2086
    microphone=$(remote_usb $MICROPHONE)
    must_come 30 "its driver" has_driver "$microphone" snd-usb-audio
}

# The microphone's twin, which the bridge made.
microphone_twin() {
    local entry path
    for entry in /sys/bus/usb/devices/*/serial; do
        path=$(dirname "$(realpath "$entry")")
        [[ $(<"$entry") == LABMIC1 && $path != "$microphone" ]] || continue
        echo "$path"
        return 0
    done
    return 1
}

no_twin() { ! microphone_twin; }

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

LIMIT_played_locally=60
case_played_locally() {
    # shellcheck disable=SC2086
    play 2 "$(owned_usb $SPEAKER)"
}

LIMIT_recorded_locally=60
case_recorded_locally() {
    local microphone
    plug_in_microphone
    record 5 "$microphone"
}

LIMIT_played=120
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

# A minute of the guest's time may take several here.
LIMIT_recorded=600
case_recorded() {
    local microphone
    plug_in_microphone
    bridge_up
    share $MICROPHONE_ID --force
    laptop attach "hub/$MICROPHONE_ID" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the microphone's twin" microphone_twin
    record 60 "$(microphone_twin)"
    laptop detach "hub/$MICROPHONE_ID" >>"$CASE_DIR/attach.log" 2>&1 ||
        fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 30 "the end of the twin" no_twin
    must_come 30 "the microphone's driver" has_driver "$microphone" snd-usb-audio
}

run_cases "$@"
