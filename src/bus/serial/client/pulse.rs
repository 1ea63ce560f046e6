//! The operation `pulse`: a timed pattern on the lines that runs next to the hardware.

use crate::bus::serial::op::{ControlSet, Lines, Step};
use crate::bus::{OperateError, Parameters};

/// The name of the operation.
pub const PULSE: &str = "pulse";
/// Its parameter.
const STEPS: &str = "steps";

/// What the owner is to run.
///
/// `steps` are separated by commas. A step is words: `dtr`, `rts`, `break` switch on, with a minus
/// sign in front off; a time (`100ms`, `250us`, `1s`) is waited after that. What a step does not name
/// stays. `-dtr rts 100ms, dtr -rts 50ms, -dtr` resets an ESP32 into its boot loader.
///
/// # Errors
/// [`OperateError::Usage`]: it is another operation, or cannot be understood.
pub fn sequence(operation: &str, parameters: &Parameters) -> Result<ControlSet, OperateError> {
    if operation != PULSE {
        return Err(OperateError::Usage(format!(
            "a serial port has no operation {operation:?}"
        )));
    }
    let text = parameters
        .get(STEPS)
        .ok_or_else(|| OperateError::Usage("pulse needs its steps".into()))?;
    let seq = text.split(',').map(step).collect::<Result<_, _>>()?;
    let set = ControlSet {
        seq,
        ..ControlSet::default()
    };
    set.check()
        .map_err(|error| OperateError::Usage(format!("{text:?}: {error}")))?;
    Ok(set)
}

/// The lines as they are afterwards, for a person.
pub fn report(lines: &Lines) -> serde_json::Value {
    serde_json::json!({
        "dtr": lines.dtr,
        "rts": lines.rts,
        "cts": lines.cts,
        "dsr": lines.dsr,
        "ri": lines.ri,
        "dcd": lines.dcd,
    })
}

fn step(text: &str) -> Result<Step, OperateError> {
    let mut step = Step::default();
    let mut words = 0;
    for word in text.split_whitespace() {
        words += 1;
        let (on, name) = match word.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, word),
        };
        match name {
            "dtr" => step.dtr = Some(on),
            "rts" => step.rts = Some(on),
            "break" => step.brk = Some(on),
            _ => {
                step.delay_us = delay(word).ok_or_else(|| {
                    OperateError::Usage(format!("{word:?} is no line and no time"))
                })?;
            }
        }
    }
    if words == 0 {
        return Err(OperateError::Usage("a step without words".into()));
    }
    Ok(step)
}

fn delay(word: &str) -> Option<u32> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at(digits);
    let unit = match unit {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Step>, OperateError> {
        let parameters = Parameters::from([(STEPS.to_owned(), text.to_owned())]);
        sequence(PULSE, &parameters).map(|set| set.seq)
    }

    #[test]
    fn steps_are_read_as_they_are_written() {
        let steps = parse("-dtr rts 100ms, dtr -rts 50us,break 1s,-break").unwrap();
        let expected = [
            (Some(false), Some(true), None, 100_000),
            (Some(true), Some(false), None, 50),
            (None, None, Some(true), 1_000_000),
            (None, None, Some(false), 0),
        ];
        assert_eq!(steps, expected.map(Step::from));
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        for text in [
            "", "dtr,,rts", "cts", "dtr 5", "5000000s", "dtr 9s", "-100ms",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&["dtr"; 33].join(",")).is_err(), "too many");
        assert!(sequence("reset", &Parameters::new()).is_err());
        assert!(sequence(PULSE, &Parameters::new()).is_err());
    }
}
