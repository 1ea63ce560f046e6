//! Settings as termios and back.

use crate::bus::serial::op::{
    DataBits, Flow, MAX_RS485_DELAY_MS, Parity, Rs485, Settings, StopBits,
};
use crate::kernel::termios::{self, Termios};

/// The settings as termios; everything that they do not name is raw.
pub(super) fn termios(settings: &Settings) -> Termios {
    let mut termios = Termios::raw(settings.baud);
    termios.c_cflag &= !libc::CSIZE;
    termios.c_cflag |= match settings.bits {
        DataBits::Five => libc::CS5,
        DataBits::Six => libc::CS6,
        DataBits::Seven => libc::CS7,
        DataBits::Eight => libc::CS8,
    };
    termios.c_cflag |= match settings.parity {
        Parity::None => 0,
        Parity::Odd => libc::PARENB | libc::PARODD,
        Parity::Even => libc::PARENB,
        Parity::Mark => libc::PARENB | libc::CMSPAR | libc::PARODD,
        Parity::Space => libc::PARENB | libc::CMSPAR,
    };
    termios.c_cflag |= match settings.stop {
        StopBits::One => 0,
        StopBits::Two | StopBits::OneAndHalf => libc::CSTOPB,
    };
    match settings.flow {
        Flow::None => {}
        Flow::RtsCts => termios.c_cflag |= libc::CRTSCTS,
        Flow::XonXoff => termios.c_iflag |= libc::IXON | libc::IXOFF,
    }
    termios
}

/// What the termios say; what they do not is as by default.
pub(super) fn settings(termios: &Termios) -> Settings {
    let has = |flag| termios.c_cflag & flag != 0;
    let bits = match termios.c_cflag & libc::CSIZE {
        libc::CS5 => DataBits::Five,
        libc::CS6 => DataBits::Six,
        libc::CS7 => DataBits::Seven,
        _ => DataBits::Eight,
    };
    let parity = match (has(libc::PARENB), has(libc::CMSPAR), has(libc::PARODD)) {
        (false, _, _) => Parity::None,
        (true, false, true) => Parity::Odd,
        (true, false, false) => Parity::Even,
        (true, true, true) => Parity::Mark,
        (true, true, false) => Parity::Space,
    };
    Settings {
        baud: termios.c_ospeed,
        bits,
        parity,
        stop: match (has(libc::CSTOPB), bits) {
            (false, _) => StopBits::One,
            (true, DataBits::Five) => StopBits::OneAndHalf,
            (true, DataBits::Six | DataBits::Seven | DataBits::Eight) => StopBits::Two,
        },
        flow: if has(libc::CRTSCTS) {
            Flow::RtsCts
        } else if termios.c_iflag & libc::IXON != 0 {
            Flow::XonXoff
        } else {
            Flow::None
        },
        ..Settings::default()
    }
}

pub(super) fn rs485_out(rs485: &Rs485) -> termios::Rs485 {
    let of = |on: bool, flag: u32| if on { flag } else { 0 };
    let flags = of(rs485.on, termios::Rs485::ENABLED)
        | of(rs485.rts_send, termios::Rs485::RTS_ON_SEND)
        | of(rs485.rts_after, termios::Rs485::RTS_AFTER_SEND)
        | of(rs485.rx, termios::Rs485::RX_DURING_TX)
        | of(rs485.term, termios::Rs485::TERMINATE_BUS);
    termios::Rs485::new(flags, rs485.before_ms, rs485.after_ms)
}

pub(super) fn rs485_in(rs485: &termios::Rs485) -> Rs485 {
    Rs485 {
        on: rs485.has(termios::Rs485::ENABLED),
        rts_send: rs485.has(termios::Rs485::RTS_ON_SEND),
        rts_after: rs485.has(termios::Rs485::RTS_AFTER_SEND),
        rx: rs485.has(termios::Rs485::RX_DURING_TX),
        term: rs485.has(termios::Rs485::TERMINATE_BUS),
        before_ms: rs485.delay_rts_before_send.min(MAX_RS485_DELAY_MS),
        after_ms: rs485.delay_rts_after_send.min(MAX_RS485_DELAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_comes_back() {
        for bits in [DataBits::Five, DataBits::Six, DataBits::Seven] {
            for parity in [Parity::Odd, Parity::Even, Parity::Mark, Parity::Space] {
                for flow in [Flow::None, Flow::RtsCts, Flow::XonXoff] {
                    let wanted = Settings {
                        baud: 250_000,
                        bits,
                        parity,
                        flow,
                        ..Settings::default()
                    };
                    assert_eq!(settings(&termios(&wanted)), wanted);
                }
            }
        }
        let usual = Settings::default();
        assert_eq!(settings(&termios(&usual)), usual);
    }

    #[test]
    fn one_and_a_half_stop_bits_are_those_of_five_data_bits() {
        let with = |bits, stop| {
            let wanted = Settings {
                bits,
                stop,
                ..Settings::default()
            };
            settings(&termios(&wanted)).stop
        };
        let half = StopBits::OneAndHalf;
        assert_eq!(with(DataBits::Five, half), half);
        assert_eq!(with(DataBits::Five, StopBits::Two), half);
        assert_eq!(with(DataBits::Eight, half), StopBits::Two);
        assert_eq!(with(DataBits::Five, StopBits::One), StopBits::One);
    }

    #[test]
    fn rs485_is_the_same_both_ways() {
        for wanted in [
            Rs485::default(),
            Rs485 {
                on: false,
                rts_send: false,
                rts_after: true,
                rx: true,
                term: true,
                before_ms: 3,
                after_ms: 100,
            },
        ] {
            assert_eq!(rs485_in(&rs485_out(&wanted)), wanted);
        }
    }
}
