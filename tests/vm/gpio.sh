#!/bin/bash
# A GPIO chip of the hub on the laptop. The hub's chip is a simulated one too: its pulls are what is
# wired to its lines.
source "${BASH_SOURCE[0]%/*}/lib.sh"
source "${BASH_SOURCE[0]%/*}/bridge.sh"

LIMIT_tools=180
LIMIT_edges=150
TOOL=${BASH_SOURCE[0]%/*}/gpio.py
LINES_OF_CHIP=66
LABEL=bench
ID=gpio:$LABEL
OWNER=/sys/kernel/config/gpio-sim/$LABEL
TRACE=/sys/kernel/tracing/instances/lab

# Without mounts of their own: those would lack configfs and tracefs.
as_hub() { COMMAND=(nsenter --net=/run/netns/srv "$MYCLERK" --state "$CASE_DIR/hub" --run "$CASE_DIR/run-hub" "$@"); }
as_laptop() { COMMAND=(nsenter --net=/run/netns/cli "$MYCLERK" --state "$CASE_DIR/laptop" --run "$CASE_DIR/run-laptop" "$@"); }

prepare() {
    modprobe configfs
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    modprobe gpio-sim
    # Else every event that is watched hooks the scheduler as well, and the emulated processor does not
    # always notice that its code was changed.
    echo 0 >/sys/kernel/tracing/options/record-cmd
    make_namespaces
    local bank=$OWNER/bank0
    mkdir -p "$bank/line0" "$bank/line65/hog"
    echo $LINES_OF_CHIP >"$bank/num_lines"
    echo $LABEL >"$bank/label"
    echo LED >"$bank/line0/name"
    echo door >"$bank/line65/hog/name"
    echo 1 >"$OWNER/live"
}

# The hub's chip: sysfs directory of a line, and what gpioinfo says of it.
there() { echo "/sys/devices/platform/$(<"$OWNER/dev_name")/$(<"$OWNER/bank0/chip_name")/sim_gpio$1"; }
there_info() { info_of "$(<"$OWNER/bank0/chip_name")" "$1"; }
info_of() { gpioinfo "$1" | awk -v line="$2:" '$1 == "line" && $2 == line'; }
pull_there() { echo "pull-$2" >"$(there "$1")/pull"; }
is_there() { [[ $(<"$(there "$1")/value") == "$2" ]]; }
said_there() { there_info "$1" | grep -qE "$2"; }

# The laptop's chip.
ours() { echo /sys/kernel/config/gpio-sim/myclerk-*; }
here() { echo "/sys/devices/platform/$(<"$(ours)/dev_name")/$(<"$(ours)/bank0/chip_name")/sim_gpio$1"; }
is_here() { [[ $(<"$(here "$1")/value") == "$2" ]]; }
no_chip() { [[ ! -e $(ours) ]]; }

attached() {
    bridge_up
    share $ID
    laptop attach "$@" "hub/$ID" >"$CASE_DIR/attach.log" 2>&1 || fail "attach: $(tail -n 1 "$CASE_DIR/attach.log")"
    CHIP=$(<"$(ours)/bank0/chip_name")
}

case_tools() {
    pull_there 1 up
    attached
    must_come 30 "the last line that is followed" said_there 63 '\[used\]'
    grep -q "/dev/$CHIP" "$CASE_DIR/attach.log" || fail "attach did not say what it made"
    gpiodetect | grep -q "^$CHIP \[$LABEL@hub\] ($LINES_OF_CHIP lines)" || fail "gpiodetect: $(gpiodetect | tail -n 1)"
    info_of "$CHIP" 0 | grep -q '"LED".*unused.*input' || fail "gpioinfo of line 0: $(info_of "$CHIP" 0)"
    info_of "$CHIP" 65 | grep -q '"used at hub"' || fail "gpioinfo of line 65: $(info_of "$CHIP" 65)"

    # A level that was there before, and one that comes.
    must_come 30 "the level of line 1" is_here 1 1
    expect_eq "gpioget" "1 0" "$(gpioget "$CHIP" 1 2)"
    pull_there 1 down
    must_come 20 "the new level of line 1" is_here 1 0
    local line
    for ((line = 0; line < 64; line += 5)); do pull_there "$line" up; done
    must_come 60 "the levels of 64 inputs" all_here
    for ((line = 0; line < 64; line += 5)); do pull_there "$line" down; done

    # An output, active-low and with a bias, as the owner's kernel shows it.
    start low gpioset --mode=signal --active-low --bias=pull-up "$CHIP" 3=1
    must_come 20 "line 3 at the hub" said_there 3 'output *active-low.*(pull-up|used)'
    must_come 10 "line 3 low at the hub" is_there 3 0
    said_there 3 'pull-up' || fail "the bias did not arrive: $(there_info 3)"
    stop low KILL
    must_come 20 "the release of line 3" said_there 3 unused

    # An open drain lets go of a line instead of driving it high: what else is wired to it decides.
    start drain gpioset --mode=signal --drive=open-drain "$CHIP" 9=1
    must_come 20 "line 9 at the hub" said_there 9 'output.*open-drain'
    must_come 10 "the pull of line 9" is_there 9 0
    pull_there 9 up
    must_come 10 "the other pull of line 9" is_there 9 1
    pull_there 9 down
    stop drain KILL

    # An input that is read when it was stable for a while.
    mkfifo "$CASE_DIR/hold"
    # shellcheck disable=SC2016
    start stable bash -c 'exec python3 "$0" watch "$1" 10 7000 <>"$2"' "$TOOL" "/dev/$CHIP" "$CASE_DIR/hold"
    must_come 20 "the debounce time of line 10" debounced_there 10 7000
    stop stable KILL
    must_come 20 "line 10 without it" debounced_there 10 ''

    # Many lines of one program.
    local settings=()
    for ((line = 0; line < 64; line++)); do settings+=("$line=$((line % 3 == 0))"); done
    start many gpioset --mode=signal "$CHIP" "${settings[@]}"
    must_come 60 "64 outputs at the hub" all_there
    stop many
    must_come 60 "the release of 64 outputs" said_there 63 'unused|input'

    python3 "$TOOL" latency "/dev/$CHIP" 64 "$(there 64)/value" 20 | tee "$CASE_DIR/latency.log"

    # From under a program that still has a line.
    start left gpioset --mode=signal "$CHIP" 4=1
    must_come 20 "line 4 at the hub" is_there 4 1
    laptop detach "hub/$ID" >>"$CASE_DIR/attach.log" 2>&1 || fail "detach: $(tail -n 1 "$CASE_DIR/attach.log")"
    must_come 20 "the end of the laptop's chip" no_chip
    must_come 20 "the release of line 4" said_there 4 unused
    [[ -z $(ls -d /sys/kernel/tracing/instances/myclerk-* 2>/dev/null) ]] || fail "a tracing instance is left"
}

all_there() {
    local line
    for ((line = 0; line < 64; line++)); do is_there "$line" $((line % 3 == 0)) || return 1; done
}

# gpioget of 64 lines: every fifth is high.
all_here() {
    local line wanted=()
    for ((line = 0; line < 64; line++)); do wanted+=($((line % 5 == 0))); done
    [[ $(gpioget "$CHIP" {0..63}) == "${wanted[*]}" ]]
}

debounced_there() {
    [[ $(python3 "$TOOL" debounce "/dev/$(<"$OWNER/bank0/chip_name")" "$1") == "$2" ]]
}

case_edges() {
    attached
    local edges=1000
    start monitor gpiomon --line-buffered --num-events=$edges --format='%o %e' "$CHIP" 5
    must_come 20 "the monitor's request" monitors
    must_come 20 "line 5 at the hub" said_there 5 '\[used\]'
    traced 5 'get == 1 && comm ~ "irq/*"'
    python3 "$TOOL" toggle "$(there 5)/pull" $TRACE/trace_pipe "$CASE_DIR/monitor.log" $edges ||
        fail "not every edge arrived"
    must_come 20 "the monitor's last edge" stopped monitor
    rm "$CASE_DIR/monitor.pid"
    rmdir $TRACE
    expect_eq "edges" "$edges" "$(wc -l <"$CASE_DIR/monitor.log")"
    awk '$0 != "5 " NR % 2 { exit 1 }' "$CASE_DIR/monitor.log" || fail "the edges are out of order"

    # The other way, with the hub's own kernel as the witness.
    traced 6 'get == 0'
    mkfifo "$CASE_DIR/hold"
    # shellcheck disable=SC2016
    start pulses bash -c 'exec python3 "$0" pulses "$1" 6 500 <>"$2"' "$TOOL" "/dev/$CHIP" "$CASE_DIR/hold"
    wait_for 40 pulses_seen 501 || fail "of 501 levels $(levels | wc -l) arrived"
    levels | awk '$0 != (NR + 1) % 2 { exit 1 }' || fail "the levels are out of order"
    stop pulses KILL
    rmdir $TRACE
}

# traced LINE FILTER: what the kernel does with a line of the hub, from now on in a tracing instance.
traced() {
    local base
    base=$(cat "/sys/devices/platform/$(<"$OWNER/dev_name")"/gpio/gpiochip*/base)
    mkdir $TRACE
    echo "gpio == $((base + $1)) && $2" >$TRACE/events/gpio/gpio_value/filter
    echo 1 >$TRACE/events/gpio/gpio_value/enable
}

monitors() { info_of "$CHIP" 5 | grep -q gpiomon; }
levels() { sed -n 's/.*gpio_value: [0-9]* set //p' $TRACE/trace; }
pulses_seen() { [[ $(levels | wc -l) -ge $1 ]]; }

case_cut() {
    attached -o safe=7:1 -o follow=none
    start safe gpioset --mode=signal "$CHIP" 7=0
    start released gpioset --mode=signal "$CHIP" 8=1
    must_come 20 "line 7 at the hub" said_there 7 output
    must_come 20 "line 8 at the hub" is_there 8 1
    is_there 7 0 || fail "line 7 is not low"
    # The owner is gone for a while: the chip stays, and the lines are as before afterwards.
    stop hub KILL
    must_come 30 "the kernel's release of line 8" said_there 8 unused
    must_come 60 "the loss of the session" attached_live false
    expect_eq "line 8 here" 1 "$(<"$(here 8)/value")"
    start_hub
    must_come 60 "the owner's return" attached_live true
    must_come 60 "line 7 at the hub again" said_there 7 output
    must_come 60 "line 8 at the hub again" is_there 8 1

    stop laptop KILL
    must_come 60 "the safe level of line 7" is_there 7 1
    must_come 20 "the release of line 8" said_there 8 unused
    is_there 8 0 || fail "line 8 is still driven"
    [[ -e $(ours) ]] || fail "a killed client leaves no chip, so nothing is shown here"

    # What was left behind goes with the next attach.
    local before
    before=$(ours)
    start_laptop
    must_come 60 "another chip in its place" another_chip "$before"
    stop safe KILL
    stop released KILL
}

another_chip() {
    # It may be attached already.
    laptop attach "hub/$ID" >>"$CASE_DIR/attach.log" 2>&1 || true
    [[ -e $(ours) && $(ours) != "$1" ]]
}

run_cases "$@"
