//! Between the settings of a tty and those of the wire.

use super::termios::{Termios, baud, flag};
use crate::bus::serial::op::{Change, DataBits, Flow, Parity, Settings, StopBits};

/// What the owner's port is to be for these settings. The speed 0, which means that the line is
/// hung up, leaves the speed as it is: `None`.
pub fn wanted(termios: &Termios) -> Change {
    Change {
        baud: Some(termios.ospeed).filter(|&speed| speed > 0),
        bits: Some(bits(termios)),
        parity: Some(parity(termios)),
        stop: Some(if termios.line_has(flag::CSTOPB) {
            StopBits::Two
        } else {
            StopBits::One
        }),
        flow: Some(flow(termios)),
        ..Change::default()
    }
}

/// Only what is to be changed; `None` when that is nothing.
pub fn difference(from: &Termios, to: &Termios) -> Option<Change> {
    fn new<T: Copy + PartialEq>(old: Option<T>, new: Option<T>) -> Option<T> {
        if old == new { None } else { new }
    }
    let (old, to) = (wanted(from), wanted(to));
    let change = Change {
        baud: new(old.baud, to.baud),
        bits: new(old.bits, to.bits),
        parity: new(old.parity, to.parity),
        stop: new(old.stop, to.stop),
        flow: new(old.flow, to.flow),
        ..Change::default()
    };
    (change != Change::default()).then_some(change)
}

/// Makes settings tell how the owner's port really is.
pub fn tell(termios: &mut Termios, actual: &Settings) {
    if termios.ospeed != 0 && termios.ospeed != actual.baud {
        termios.actual_speed(actual.baud);
    }
    let mut cflag = termios.cflag & !(flag::CSIZE | flag::CSTOPB);
    cflag |= match actual.bits {
        DataBits::Five => 0,
        DataBits::Six => 0o20,
        DataBits::Seven => 0o40,
        DataBits::Eight => flag::CS8,
    };
    if actual.stop != StopBits::One {
        cflag |= flag::CSTOPB;
    }
    if actual.parity != parity(termios) {
        cflag &= !(flag::PARENB | flag::PARODD | flag::CMSPAR);
        cflag |= match actual.parity {
            Parity::None => 0,
            Parity::Odd => flag::PARENB | flag::PARODD,
            Parity::Even => flag::PARENB,
            Parity::Mark => flag::PARENB | flag::PARODD | flag::CMSPAR,
            Parity::Space => flag::PARENB | flag::CMSPAR,
        };
    }
    if actual.flow != Flow::RtsCts {
        cflag &= !flag::CRTSCTS;
    }
    termios.cflag = cflag;
}

const fn bits(termios: &Termios) -> DataBits {
    match termios.cflag & flag::CSIZE {
        0 => DataBits::Five,
        0o20 => DataBits::Six,
        0o40 => DataBits::Seven,
        _ => DataBits::Eight,
    }
}

const fn parity(termios: &Termios) -> Parity {
    let odd = termios.line_has(flag::PARODD);
    match (
        termios.line_has(flag::PARENB),
        termios.line_has(flag::CMSPAR),
    ) {
        (false, _) => Parity::None,
        (true, false) if odd => Parity::Odd,
        (true, false) => Parity::Even,
        (true, true) if odd => Parity::Mark,
        (true, true) => Parity::Space,
    }
}

/// The wire has one of them. A program that lets the line stop its output (IXON) but does not stop
/// the line itself (IXOFF) is served here: the owner would send it XOFF.
const fn flow(termios: &Termios) -> Flow {
    if termios.line_has(flag::CRTSCTS) {
        Flow::RtsCts
    } else if termios.input(flag::IXOFF) {
        Flow::XonXoff
    } else {
        Flow::None
    }
}

/// Whether the line is hung up by the speed.
pub const fn is_hung_up(termios: &Termios) -> bool {
    termios.cflag & baud::CBAUD == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cflag: u32) -> Termios {
        let mut termios = Termios::FIRST;
        termios.cflag = cflag | baud::B9600;
        termios
    }

    #[test]
    fn every_frame_format_comes_back_as_it_was_asked_for() {
        for size in [0, 0o20, 0o40, 0o60] {
            for stop in [0, flag::CSTOPB] {
                for parity in [
                    0,
                    flag::PARENB,
                    flag::PARENB | flag::PARODD,
                    flag::PARENB | flag::CMSPAR,
                    flag::PARENB | flag::PARODD | flag::CMSPAR,
                ] {
                    let asked = with(size | stop | parity | flag::CRTSCTS);
                    let actual = Settings::default().with(&wanted(&asked));
                    let mut told = asked;
                    tell(&mut told, &actual);
                    assert_eq!(told, asked);
                }
            }
        }
    }

    #[test]
    fn only_what_changes_is_asked_for() {
        let old = Termios::FIRST;
        let mut new = old;
        new.lflag = 0;
        new.iflag = 0;
        assert_eq!(difference(&old, &new), None);
        new.cflag |= flag::CRTSCTS;
        let change = difference(&old, &new).unwrap();
        assert_eq!(change.flow, Some(Flow::RtsCts));
        assert_eq!((change.baud, change.bits), (None, None));
        new = old;
        new.actual_speed(250_000);
        assert_eq!(difference(&old, &new).unwrap().baud, Some(250_000));
    }

    #[test]
    fn what_the_port_cannot_do_is_told() {
        let mut asked = with(flag::PARENB | flag::CMSPAR | flag::CRTSCTS | flag::CSTOPB);
        let actual = Settings {
            baud: 9615,
            ..Settings::default()
        };
        tell(&mut asked, &actual);
        assert_eq!(asked.cflag, flag::CS8 | baud::B9600);
        assert_eq!(asked.ospeed, 9615);
    }

    #[test]
    fn a_line_hung_up_by_its_speed_keeps_the_port_as_it_is() {
        let mut asked = Termios::FIRST;
        asked.cflag &= !baud::CBAUD;
        asked.ospeed = 0;
        assert!(is_hung_up(&asked));
        assert_eq!(difference(&Termios::FIRST, &asked), None);
    }
}
