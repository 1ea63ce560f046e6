//! A force-feedback effect as a map: the same on machines of any word length and byte order.

use serde::{Deserialize, Serialize};

use super::OpError;
use crate::kernel::evdev::codes::{FF_CONSTANT, FF_PERIODIC, FF_RAMP, FF_RUMBLE};
use crate::kernel::evdev::{By, Condition, Effect, Envelope, Kind, Wave};

#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    dir: u16,
    /// Attack length and level, fade length and level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<(u16, u16, u16, u16)>,
    id: i16,
    /// Length and delay.
    replay: (u16, u16),
    /// Button and interval.
    #[serde(default)]
    trigger: (u16, u16),
    #[serde(rename = "type")]
    kind: u16,
    /// By the type: rumble `strong, weak`; constant `level`; ramp `start, end`; periodic `waveform,
    /// period, magnitude, offset, phase`; spring, friction, damper, inertia for each of two axes
    /// `right and left saturation, right and left coefficient, deadband, center`.
    v: Vec<i32>,
}

impl From<&Effect> for Wire {
    fn from(effect: &Effect) -> Self {
        let (env, v) = match effect.kind {
            Kind::Rumble { strong, weak } => (None, vec![strong.into(), weak.into()]),
            Kind::Constant { level, envelope } => (Some(envelope), vec![level.into()]),
            Kind::Ramp {
                start,
                end,
                envelope,
            } => (Some(envelope), vec![start.into(), end.into()]),
            Kind::Periodic {
                wave,
                period,
                magnitude,
                offset,
                phase,
                envelope,
            } => (
                Some(envelope),
                vec![
                    wave.to_u16().into(),
                    period.into(),
                    magnitude.into(),
                    offset.into(),
                    phase.into(),
                ],
            ),
            Kind::Condition { axes, .. } => {
                let values = |axis: Condition| {
                    let ([right, left], [right_by, left_by]) = (axis.saturation, axis.coefficient);
                    [
                        right.into(),
                        left.into(),
                        right_by.into(),
                        left_by.into(),
                        axis.deadband.into(),
                        axis.center.into(),
                    ]
                };
                (None, axes.into_iter().flat_map(values).collect())
            }
        };
        Self {
            dir: effect.direction,
            env: env.map(|[a, b, c, d]| (a, b, c, d)),
            id: effect.id,
            replay: effect.replay.into(),
            trigger: effect.trigger.into(),
            kind: effect.kind.to_u16(),
            v,
        }
    }
}

impl Wire {
    pub(super) fn check(&self) -> Result<Effect, OpError> {
        let (a, b, c, d) = self.env.unwrap_or_default();
        let envelope: Envelope = [a, b, c, d];
        let kind = match (self.kind, self.v.as_slice()) {
            (FF_RUMBLE, &[strong, weak]) => Kind::Rumble {
                strong: unsigned(strong)?,
                weak: unsigned(weak)?,
            },
            (FF_CONSTANT, &[level]) => Kind::Constant {
                level: signed(level)?,
                envelope,
            },
            (FF_RAMP, &[start, end]) => Kind::Ramp {
                start: signed(start)?,
                end: signed(end)?,
                envelope,
            },
            (FF_PERIODIC, &[wave, period, magnitude, offset, phase]) => Kind::Periodic {
                wave: Wave::from_u16(unsigned(wave)?).ok_or(OpError::Field("waveform"))?,
                period: unsigned(period)?,
                magnitude: signed(magnitude)?,
                offset: signed(offset)?,
                phase: unsigned(phase)?,
                envelope,
            },
            (by, values) => {
                let Some((one, other)) = values.split_at_checked(6) else {
                    return Err(OpError::Field("v"));
                };
                Kind::Condition {
                    by: By::from_u16(by).ok_or(OpError::Field("type"))?,
                    axes: [condition(one)?, condition(other)?],
                }
            }
        };
        Ok(Effect {
            id: self.id,
            direction: self.dir,
            trigger: self.trigger.into(),
            replay: self.replay.into(),
            kind,
        })
    }
}

fn condition(values: &[i32]) -> Result<Condition, OpError> {
    let &[right, left, right_by, left_by, deadband, center] = values else {
        return Err(OpError::Field("v"));
    };
    Ok(Condition {
        saturation: [unsigned(right)?, unsigned(left)?],
        coefficient: [signed(right_by)?, signed(left_by)?],
        deadband: unsigned(deadband)?,
        center: signed(center)?,
    })
}

fn unsigned(value: i32) -> Result<u16, OpError> {
    u16::try_from(value).map_err(|_| OpError::Field("v"))
}

fn signed(value: i32) -> Result<i16, OpError> {
    i16::try_from(value).map_err(|_| OpError::Field("v"))
}
