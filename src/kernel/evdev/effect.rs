//! Force-feedback effects: plain values on this side, `struct ff_effect` on the kernel's.

use super::abi::{
    RawCondition, RawConstant, RawEffect, RawEnvelope, RawKind, RawPeriodic, RawRamp, RawReplay,
    RawRumble, RawTrigger,
};
use super::codes::{
    FF_CONSTANT, FF_CUSTOM, FF_DAMPER, FF_FRICTION, FF_INERTIA, FF_PERIODIC, FF_RAMP, FF_RUMBLE,
    FF_SPRING, FF_SQUARE,
};

/// An effect (`struct ff_effect`). Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its number at the device; -1 asks for a new one.
    pub id: i16,
    /// Where the force comes from: 0 down, 0x4000 left, 0x8000 up, 0xC000 right.
    pub direction: u16,
    /// The button that plays it, 0 for none, and the least time between two plays.
    pub trigger: [u16; 2],
    /// How long it lasts, and the delay before it.
    pub replay: [u16; 2],
    /// What it is.
    pub kind: Kind,
}

/// Attack length, attack level, fade length, fade level.
pub type Envelope = [u16; 4];

/// What an effect does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The heavy and the light motor.
    Rumble {
        /// 0 to 0xFFFF.
        strong: u16,
        /// 0 to 0xFFFF.
        weak: u16,
    },
    /// The same force all the time.
    Constant {
        /// Its strength.
        level: i16,
        /// How it begins and ends.
        envelope: Envelope,
    },
    /// From one strength to another.
    Ramp {
        /// The first.
        start: i16,
        /// The last.
        end: i16,
        /// How it begins and ends.
        envelope: Envelope,
    },
    /// A wave.
    Periodic {
        /// Its form.
        wave: Wave,
        /// Its length.
        period: u16,
        /// Its height.
        magnitude: i16,
        /// Its mean.
        offset: i16,
        /// Where in the wave it begins.
        phase: u16,
        /// How it begins and ends.
        envelope: Envelope,
    },
    /// A force that answers to movement, for each of two axes.
    Condition {
        /// By what.
        by: By,
        /// The axes.
        axes: [Condition; 2],
    },
}

/// The form of a wave, but for those whose samples a program brings: uinput refuses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wave {
    /// `FF_SQUARE`.
    Square,
    /// `FF_TRIANGLE`.
    Triangle,
    /// `FF_SINE`.
    Sine,
    /// `FF_SAW_UP`.
    SawUp,
    /// `FF_SAW_DOWN`.
    SawDown,
}

/// What a condition answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `FF_SPRING`: the position.
    Position,
    /// `FF_FRICTION`: that there is movement.
    Movement,
    /// `FF_DAMPER`: the speed.
    Speed,
    /// `FF_INERTIA`: the acceleration.
    Acceleration,
}

/// One axis of a condition (`struct ff_condition_effect`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Most force to the right and to the left.
    pub saturation: [u16; 2],
    /// How fast it grows to the right and to the left.
    pub coefficient: [i16; 2],
    /// The width without force.
    pub deadband: u16,
    /// The middle of that.
    pub center: i16,
}

impl Wave {
    /// Every form, in the order of their numbers from `FF_SQUARE` on.
    pub const ALL: [Self; 5] = [
        Self::Square,
        Self::Triangle,
        Self::Sine,
        Self::SawUp,
        Self::SawDown,
    ];

    /// The number, `FF_SQUARE` to `FF_SAW_DOWN`.
    pub const fn to_u16(self) -> u16 {
        FF_SQUARE + self as u16
    }

    /// The form with that number.
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|wave| wave.to_u16() == number)
    }
}

impl By {
    /// Everything that a condition may answer to.
    pub const ALL: [Self; 4] = [
        Self::Position,
        Self::Movement,
        Self::Speed,
        Self::Acceleration,
    ];

    /// The kind of effect.
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::Position => FF_SPRING,
            Self::Movement => FF_FRICTION,
            Self::Speed => FF_DAMPER,
            Self::Acceleration => FF_INERTIA,
        }
    }

    /// By the kind of effect.
    pub fn from_u16(kind: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.to_u16() == kind)
    }
}

impl Kind {
    /// The number of its kind, `FF_RUMBLE` to `FF_RAMP`.
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::Rumble { .. } => FF_RUMBLE,
            Self::Constant { .. } => FF_CONSTANT,
            Self::Ramp { .. } => FF_RAMP,
            Self::Periodic { .. } => FF_PERIODIC,
            Self::Condition { by, .. } => by.to_u16(),
        }
    }
}

impl Effect {
    /// For the kernel, every byte of it our own.
    pub(in crate::kernel) fn to_raw(self) -> RawEffect {
        let mut raw = RawEffect {
            kind: self.kind.to_u16(),
            id: self.id,
            direction: self.direction,
            trigger: RawTrigger {
                button: self.trigger[0],
                interval: self.trigger[1],
            },
            replay: RawReplay {
                length: self.replay[0],
                delay: self.replay[1],
            },
            u: RawKind::ZERO,
        };
        match self.kind {
            Kind::Rumble { strong, weak } => raw.u.rumble = RawRumble { strong, weak },
            Kind::Constant { level, envelope } => {
                raw.u.constant = RawConstant {
                    level,
                    envelope: envelope_to_raw(envelope),
                };
            }
            Kind::Ramp {
                start,
                end,
                envelope,
            } => {
                raw.u.ramp = RawRamp {
                    start,
                    end,
                    envelope: envelope_to_raw(envelope),
                };
            }
            Kind::Periodic {
                wave,
                period,
                magnitude,
                offset,
                phase,
                envelope,
            } => {
                raw.u.periodic = RawPeriodic {
                    waveform: wave.to_u16(),
                    period,
                    magnitude,
                    offset,
                    phase,
                    envelope: envelope_to_raw(envelope),
                    custom_len: 0,
                    custom_data: core::ptr::null_mut(),
                };
            }
            Kind::Condition { axes, .. } => raw.u.condition = axes.map(condition_to_raw),
        }
        raw
    }

    /// From the kernel; `None` for a kind that this crate does not know, or a custom wave.
    pub(in crate::kernel) fn from_raw(raw: &RawEffect) -> Option<Self> {
        let kind = match raw.kind {
            FF_RUMBLE => {
                // SAFETY: every member of the union is plain integers (or a pointer that is not
                // followed), all of its bytes are initialised, so each of them may be read.
                let RawRumble { strong, weak } = unsafe { raw.u.rumble };
                Kind::Rumble { strong, weak }
            }
            FF_CONSTANT => {
                // SAFETY: as above.
                let RawConstant { level, envelope } = unsafe { raw.u.constant };
                Kind::Constant {
                    level,
                    envelope: envelope_from_raw(envelope),
                }
            }
            FF_RAMP => {
                // SAFETY: as above.
                let RawRamp {
                    start,
                    end,
                    envelope,
                } = unsafe { raw.u.ramp };
                Kind::Ramp {
                    start,
                    end,
                    envelope: envelope_from_raw(envelope),
                }
            }
            FF_PERIODIC => {
                // SAFETY: as above.
                let periodic = unsafe { raw.u.periodic };
                if periodic.waveform == FF_CUSTOM {
                    return None;
                }
                Kind::Periodic {
                    wave: Wave::from_u16(periodic.waveform)?,
                    period: periodic.period,
                    magnitude: periodic.magnitude,
                    offset: periodic.offset,
                    phase: periodic.phase,
                    envelope: envelope_from_raw(periodic.envelope),
                }
            }
            other => Kind::Condition {
                by: By::from_u16(other)?,
                // SAFETY: as above.
                axes: unsafe { raw.u.condition }.map(condition_from_raw),
            },
        };
        Some(Self {
            id: raw.id,
            direction: raw.direction,
            trigger: [raw.trigger.button, raw.trigger.interval],
            replay: [raw.replay.length, raw.replay.delay],
            kind,
        })
    }
}

const fn envelope_to_raw(envelope: Envelope) -> RawEnvelope {
    let [attack_length, attack_level, fade_length, fade_level] = envelope;
    RawEnvelope {
        attack_length,
        attack_level,
        fade_length,
        fade_level,
    }
}

const fn envelope_from_raw(raw: RawEnvelope) -> Envelope {
    [
        raw.attack_length,
        raw.attack_level,
        raw.fade_length,
        raw.fade_level,
    ]
}

const fn condition_to_raw(axis: Condition) -> RawCondition {
    RawCondition {
        saturation: axis.saturation,
        coefficient: axis.coefficient,
        deadband: axis.deadband,
        center: axis.center,
    }
}

const fn condition_from_raw(raw: RawCondition) -> Condition {
    Condition {
        saturation: raw.saturation,
        coefficient: raw.coefficient,
        deadband: raw.deadband,
        center: raw.center,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One effect of each kind, every field different.
    pub(crate) fn one_of_each() -> Vec<Effect> {
        let envelope = [11, 12, 13, 14];
        let mut kinds = vec![
            Kind::Rumble {
                strong: 0xFFFF,
                weak: 2,
            },
            Kind::Constant {
                level: -3,
                envelope,
            },
            Kind::Ramp {
                start: -32768,
                end: 32767,
                envelope,
            },
        ];
        kinds.extend(Wave::ALL.map(|wave| Kind::Periodic {
            wave,
            period: 21,
            magnitude: -22,
            offset: 23,
            phase: 24,
            envelope,
        }));
        let axis = Condition {
            saturation: [31, 32],
            coefficient: [-33, 34],
            deadband: 35,
            center: -36,
        };
        kinds.extend(By::ALL.map(|by| Kind::Condition {
            by,
            axes: [axis, Condition::default()],
        }));
        let effect = |kind| Effect {
            id: -1,
            direction: 0x4000,
            trigger: [1, 2],
            replay: [3, 4],
            kind,
        };
        kinds.into_iter().map(effect).collect()
    }

    #[test]
    fn every_kind_of_effect_survives_the_kernels_structure() {
        for effect in one_of_each() {
            assert_eq!(Effect::from_raw(&effect.to_raw()), Some(effect));
        }
    }

    #[test]
    fn a_custom_wave_and_an_unknown_kind_are_not_taken() {
        let mut raw = one_of_each()[3].to_raw();
        raw.u.periodic = RawPeriodic {
            waveform: FF_CUSTOM,
            // SAFETY: the effect is a wave.
            ..unsafe { raw.u.periodic }
        };
        assert_eq!(Effect::from_raw(&raw), None);
        raw.kind = 0x4F;
        assert_eq!(Effect::from_raw(&raw), None);
    }
}
