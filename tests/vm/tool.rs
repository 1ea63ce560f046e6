//! What the guest scripts need of this program: they run it as `$VM_TOOLS --tool NAME ARGS`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::device::{self, Camera, Microphone, Mouse};
use crate::{echo, i2c_tool, input_tool, onewire_tool, ramp, say, turns};

/// The result of the tool that the command line names; `None` when it names tests.
pub(crate) fn asked_for() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [first, words @ ..] = args.as_slice() else {
        return None;
    };
    if first != "--tool" {
        return None;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            say(&format!("{}: {error}", words.join(" ")));
            Some(ExitCode::FAILURE)
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match words {
        ["camera"] => device::plug_in(&mut { Camera::FULL_SPEED }),
        ["high-speed-camera"] => device::plug_in(&mut { Camera::HIGH_SPEED }),
        ["microphone"] => device::plug_in(&mut Microphone),
        ["mouse"] => device::plug_in(&mut Mouse::default()),
        ["echo", name] => echo::serve(name),
        ["i2c", orders, content] => i2c_tool::serve(Path::new(orders), Path::new(content)),
        ["pad", orders] => input_tool::serve(Path::new(orders)),
        ["input-state", node] => input_tool::state(Path::new(node)),
        ["input-set", node, kind, code, value] => input_tool::set(
            Path::new(node),
            number(kind)?,
            number(code)?,
            number(value)?,
        ),
        ["input-hold", node] => input_tool::hold(Path::new(node)),
        ["input-effects", node] => input_tool::effects(Path::new(node)),
        ["onewire-bus", orders, count] => onewire_tool::serve(Path::new(orders), number(count)?),
        ["onewire-alarms", master] => onewire_tool::alarms(number(master)?),
        ["write-ramp", file, lead, frames, tail] => ramp::write(
            Path::new(file),
            number(lead)?,
            number(frames)?,
            number(tail)?,
        ),
        ["find-ramp", file] => {
            let found = ramp::find(Path::new(file))?;
            say(&format!("{} {}", found.start(), found.end()));
            Ok(())
        }
        ["take", run_dir, device, driver, count] => turns::take(
            Path::new(run_dir),
            device,
            Path::new(driver),
            number(count)?,
        ),
        _ => Err(io::Error::other("no such tool")),
    }
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(word: &str) -> io::Result<T> {
    word.parse().map_err(io::Error::other)
}
