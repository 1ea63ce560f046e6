//! What of an owner's word reaches this machine's kernel.

use crate::kernel::evdev::codes::{
    ABS_MT_FIRST, ABS_MT_LAST, ABS_MT_SLOT, EV_ABS, EV_KEY, EV_LED, EV_MSC, EV_REL, EV_REP, EV_SND,
    EV_SW, EV_SYN, FF_CUSTOM, FF_PERIODIC, REP_PERIOD, SYN_MT_REPORT, SYN_REPORT,
};
use crate::kernel::evdev::{Codes, Description, Event, MAX_SLOTS};

/// Longest delay or period of repetition, in milliseconds.
const MAX_REPEAT: u32 = 60_000;

/// Why no device is made of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    /// The least value of an axis is above its greatest.
    #[error("the range of axis {0:#x} cannot be")]
    Range(u16),
    /// More contacts than any hand has.
    #[error("{0} slots for contacts are too many")]
    Slots(usize),
}

/// A description of which uinput can make a device, as near to the owner's as may be.
pub(super) fn presentable(mut of: Description, back: bool) -> Result<Description, Impossible> {
    for (code, axis) in &mut of.abs {
        if axis.maximum < axis.minimum {
            return Err(Impossible::Range(*code));
        }
        let range = i64::from(axis.maximum) - i64::from(axis.minimum);
        if i64::from(axis.flat) > range {
            axis.flat = 0;
        }
        // The owner's kernel has filtered the noise; ours would filter what is left once more.
        axis.fuzz = 0;
    }
    if of.slots() > MAX_SLOTS {
        return Err(Impossible::Slots(of.slots()));
    }
    of.name.retain(|c| !c.is_control());
    if of.name.is_empty() {
        "myclerk device".clone_into(&mut of.name);
    }
    // uinput does not pass on the samples of such waves.
    of.ff.set(FF_CUSTOM, false);
    if !back || of.effects == 0 || !of.ff.iter().any(|code| code < FF_PERIODIC + 7) {
        of.ff = Codes::new();
        of.effects = 0;
    }
    let fits = |times: &[u32; 2]| times.iter().all(|time| *time <= MAX_REPEAT);
    of.repeat = of
        .repeat
        .map(|times| if fits(&times) { times } else { [250, 33] });
    Ok(of)
}

/// Whether these are descriptions of one device: all but the state that it was in.
pub(super) fn same(one: &Description, other: &Description) -> bool {
    let stateless = |of: &Description| {
        let mut of = of.clone();
        of.abs.iter_mut().for_each(|(_, axis)| axis.value = 0);
        of.repeat = of.repeat.map(|_| [0; 2]);
        of
    };
    stateless(one) == stateless(other)
}

/// Whether the described device can do this.
pub(super) fn possible(event: &Event, of: &Description) -> bool {
    let Event { code, value, .. } = *event;
    match event.kind {
        EV_SYN if code == SYN_REPORT => true,
        EV_SYN => code == SYN_MT_REPORT && of.slots() == 0 && has_contacts(of),
        // 2 is repetition, which this machine's kernel does by itself.
        EV_KEY => of.keys.has(code) && matches!(value, 0 | 1),
        EV_REL => of.rel.has(code),
        EV_ABS if code == ABS_MT_SLOT => usize::try_from(value).is_ok_and(|slot| slot < of.slots()),
        EV_ABS => of.axis(code).is_some(),
        EV_MSC => of.msc.has(code),
        EV_SW => of.switches.has(code) && matches!(value, 0 | 1),
        EV_LED => of.leds.has(code) && matches!(value, 0 | 1),
        EV_SND => of.sounds.has(code),
        EV_REP => {
            let sane = u32::try_from(value).is_ok_and(|time| time <= MAX_REPEAT);
            of.repeat.is_some() && code <= REP_PERIOD && sane
        }
        _ => false,
    }
}

fn has_contacts(of: &Description) -> bool {
    let mut axes = of.abs.iter().map(|(code, _)| *code);
    axes.any(|code| (ABS_MT_FIRST..=ABS_MT_LAST).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::evdev::Axis;
    use crate::kernel::evdev::codes::{EV_FF, EV_UINPUT, SYN_DROPPED};

    fn axis(minimum: i32, maximum: i32, flat: i32) -> Axis {
        Axis {
            minimum,
            maximum,
            flat,
            ..Axis::default()
        }
    }

    fn device() -> Description {
        Description {
            name: "pad".to_owned(),
            keys: [30].into_iter().collect(),
            rel: [0].into_iter().collect(),
            abs: vec![(0, axis(0, 10, 0)), (ABS_MT_SLOT, axis(0, 1, 0))],
            leds: [1].into_iter().collect(),
            ff: [0x50, 0x51, 0x58, 0x5D, 0x60].into_iter().collect(),
            effects: 4,
            repeat: Some([250, 33]),
            ..Description::default()
        }
    }

    #[test]
    fn only_what_was_announced_reaches_the_kernel() {
        let of = device();
        for (kind, code, value, wanted) in [
            (EV_SYN, SYN_REPORT, 0, true),
            (EV_SYN, SYN_DROPPED, 0, false),
            (EV_SYN, SYN_MT_REPORT, 0, false),
            (EV_KEY, 30, 1, true),
            (EV_KEY, 30, 2, false),
            (EV_KEY, 30, -1, false),
            (EV_KEY, 31, 1, false),
            (EV_REL, 0, i32::MIN, true),
            (EV_REL, 1, 1, false),
            (EV_ABS, 0, 99, true),
            (EV_ABS, 1, 99, false),
            (EV_ABS, ABS_MT_SLOT, 1, true),
            (EV_ABS, ABS_MT_SLOT, 2, false),
            (EV_ABS, ABS_MT_SLOT, -1, false),
            (EV_LED, 1, 1, true),
            (EV_LED, 1, 7, false),
            (EV_LED, 0, 1, false),
            (EV_REP, 0, 500, true),
            (EV_REP, 0, -1, false),
            (EV_REP, 2, 1, false),
            (EV_FF, 0, 1, false),
            (EV_UINPUT, 1, 0, false),
            (0x1F, 0, 0, false),
        ] {
            let event = Event::new(kind, code, value);
            assert_eq!(possible(&event, &of), wanted, "{event:?}");
        }
    }

    #[test]
    fn a_device_is_the_same_in_whatever_state() {
        let of = device();
        let mut moved = of.clone();
        moved.abs[0].1.value = 7;
        moved.repeat = Some([1000, 100]);
        assert!(same(&of, &moved));
        let other = Description {
            keys: [31].into_iter().collect(),
            ..device()
        };
        let wider = Description {
            abs: vec![(0, axis(0, 11, 0)), (ABS_MT_SLOT, axis(0, 1, 0))],
            ..device()
        };
        assert!(!same(&of, &other));
        assert!(!same(&of, &wider));
    }

    #[test]
    fn a_device_that_cannot_be_is_not_made() {
        let with = |code, axis| Description {
            abs: vec![(code, axis)],
            ..device()
        };
        assert_eq!(
            presentable(with(3, axis(5, 4, 0)), true),
            Err(Impossible::Range(3))
        );
        let slots = axis(0, i32::MAX, 0);
        assert_eq!(
            presentable(with(ABS_MT_SLOT, slots), true),
            Err(Impossible::Slots(1 << 31))
        );
    }

    #[test]
    fn what_uinput_would_refuse_is_left_out() {
        let odd = Description {
            name: "a\nb\u{7}".to_owned(),
            abs: vec![(0, axis(i32::MIN, i32::MAX, 9)), (1, axis(0, 1, 2))],
            repeat: Some([u32::MAX, 1]),
            ..device()
        };
        let made = presentable(odd, true).unwrap();
        assert_eq!(made.name, "ab");
        assert_eq!((made.abs[0].1.flat, made.abs[1].1.flat), (9, 0));
        assert_eq!(made.repeat, Some([250, 33]));
        assert_eq!(made.ff, [0x50, 0x51, 0x58, 0x60].into_iter().collect());
    }

    #[test]
    fn without_a_way_back_there_is_no_force_feedback() {
        let silent = presentable(device(), false).unwrap();
        assert!(silent.ff.is_empty());
        assert_eq!(silent.effects, 0);
        let none = Description {
            effects: 0,
            ..device()
        };
        assert!(presentable(none, true).unwrap().ff.is_empty());
    }
}
