//! The bridge in a real kernel: guests with Debian's stock kernel and emulated USB devices.
//!
//! `cargo test --test vm` boots few guests and prints one line per case; `cargo test --test vm --
//! FILTER` boots only what those cases need, `--list` names them. `scripts/lab setup` prepares the
//! machine. Without it the cases are skipped, or fail where `CI` or `MYCLERK_REQUIRE_LAB` is set.
//! Guests run side by side, as many as there are processors (`MYCLERK_VM_JOBS`). With
//! `MYCLERK_VM_THOROUGH=1` what is repeated is repeated more often: fifty kills, two hundred cycles,
//! twenty rounds of unlinks at each speed, a minute of film.

#[path = "vm/adapter_tool.rs"]
mod adapter_tool;
#[path = "vm/device/mod.rs"]
mod device;
#[path = "vm/echo.rs"]
mod echo;
#[path = "vm/guest.rs"]
mod guest;
#[path = "vm/i2c_tool.rs"]
mod i2c_tool;
#[path = "vm/input_tool.rs"]
mod input_tool;
#[path = "vm/onewire_tool.rs"]
mod onewire_tool;
#[path = "vm/plan.rs"]
mod plan;
#[path = "vm/ramp.rs"]
mod ramp;
#[path = "vm/tool.rs"]
mod tool;
#[path = "vm/turns.rs"]
mod turns;

use std::io::Write;
use std::num::NonZero;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use guest::{End, Outcome, Report};
use plan::{Boot, Case, Wanted};

const SETUP: &str = "scripts/lab setup";
/// Guests side by side unless `MYCLERK_VM_JOBS` says otherwise; each has a gigabyte.
const MOST_JOBS: usize = 4;

struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    nocapture: bool,
}

impl Options {
    /// Understands what `cargo test` and its users pass to libtest; options without a meaning here
    /// (threads, colours, formats) are accepted.
    fn parse(args: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            filters: vec![],
            skips: vec![],
            exact: false,
            list: false,
            nocapture: false,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--nocapture" | "--no-capture" => options.nocapture = true,
                "--skip" => options.skips.extend(args.next()),
                "--test-threads" | "--color" | "--format" | "-Z" => drop(args.next()),
                other if other.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn takes(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern)
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    ignored: usize,
    filtered: usize,
    failures: Vec<(String, String)>,
}

fn main() -> ExitCode {
    if let Some(result) = tool::asked_for() {
        return result;
    }
    let options = Options::parse(std::env::args().skip(1));
    let boots = plan::boots();
    if options.list {
        for case in boots
            .iter()
            .flat_map(|boot| &boot.cases)
            .filter(|c| options.takes(c.name))
        {
            say(&format!("{}: test", case.name));
        }
        return ExitCode::SUCCESS;
    }

    let started = Instant::now();
    let total: usize = boots.iter().map(|boot| boot.cases.len()).sum();
    let mut tally = Tally::default();
    let chosen: Vec<(&Boot, Vec<&Case>)> = boots
        .iter()
        .map(|boot| {
            (
                boot,
                boot.cases
                    .iter()
                    .filter(|c| options.takes(c.name))
                    .collect::<Vec<_>>(),
            )
        })
        .filter(|(_, cases)| !cases.is_empty())
        .collect();
    let wanted: usize = chosen.iter().map(|(_, cases)| cases.len()).sum();
    tally.filtered = total - wanted;
    say(&format!("\nrunning {wanted} tests"));

    match lab_is_ready() {
        Ok(()) => run(&chosen, options.nocapture, &mut tally),
        Err(why) => {
            for (_, cases) in &chosen {
                skip(cases, &why, &mut tally);
            }
        }
    }
    conclude(&tally, started.elapsed())
}

/// Boots what was chosen: first what can share the machine, then, one by one, what needs it whole.
fn run(chosen: &[(&Boot, Vec<&Case>)], nocapture: bool, tally: &mut Tally) {
    let (alone, shared): (Vec<_>, Vec<_>) = chosen.iter().partition(|(boot, _)| boot.alone);
    let tally = Mutex::new(tally);
    for (boots, jobs) in [(shared, jobs()), (alone, 1)] {
        let next = Mutex::new(boots.into_iter());
        let work = || {
            while let Some((boot, cases)) = next.lock().ok().and_then(|mut next| next.next()) {
                run_boot(boot, cases, nocapture, &tally);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
    }
}

/// How many guests run side by side: half of them wait for something at any time.
fn jobs() -> usize {
    let wanted = std::env::var("MYCLERK_VM_JOBS").ok();
    let wanted = wanted.and_then(|jobs| jobs.parse().ok());
    wanted.unwrap_or_else(|| {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        processors.min(MOST_JOBS)
    })
}

/// Whether a guest can be booted here; otherwise what is missing and what mends it.
fn lab_is_ready() -> Result<(), String> {
    let status = lab().arg("ready").stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("the lab is not set up; run: {SETUP}")),
        Err(error) => Err(format!("scripts/lab does not start: {error}")),
    }
}

fn lab() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
}

/// A skipped case is visible, and no case may be skipped where the lab is required.
fn skip(cases: &[&Case], why: &str, tally: &mut Tally) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let required = set("CI") || set("MYCLERK_REQUIRE_LAB");
    for case in cases {
        if required {
            result(case.name, "FAILED", None);
            tally.failures.push((case.name.to_owned(), why.to_owned()));
        } else {
            say(&format!("test {} ... SKIPPED, {why}", case.name));
            tally.ignored += 1;
        }
    }
}

fn run_boot(boot: &Boot, cases: &[&Case], nocapture: bool, tally: &Mutex<&mut Tally>) {
    let mut echo = |line: &str| {
        if nocapture {
            say(line);
        }
    };
    let names: Vec<&str> = cases.iter().map(|case| case.function).collect();
    let mut report = guest::boot(lab(), boot, &names, &mut echo);
    if report.as_ref().is_ok_and(Report::died_booting) {
        say(&format!(
            "guest {} died while it booted: once more",
            boot.name
        ));
        report = guest::boot(lab(), boot, &names, &mut echo);
    }
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    for case in cases {
        let verdict = match &report {
            Ok(report) => judge(case, report),
            Err(error) => Err(format!("the guest could not be started: {error}")),
        };
        let seconds = report
            .as_ref()
            .ok()
            .and_then(|report| report.case(case.function))
            .map(|found| found.took);
        match verdict {
            Ok(()) => {
                result(case.name, "ok", seconds);
                let found = report.as_ref().ok().and_then(|r| r.case(case.function));
                let log = found.map_or("", |found| found.log.as_str());
                for line in log.lines().filter(|line| line.starts_with("measured: ")) {
                    say(&format!("  {line}"));
                }
                tally.passed += 1;
            }
            Err(why) => {
                result(case.name, "FAILED", seconds);
                tally.failures.push((case.name.to_owned(), why));
            }
        }
    }
}

/// Compares what a guest reported with what the case wants of it.
fn judge(case: &Case, report: &Report) -> Result<(), String> {
    let found = report.case(case.function);
    match (&case.wanted, found.map(|found| &found.outcome)) {
        (Wanted::Pass, Some(Outcome::Passed)) => match &report.end {
            End::Hung(why) | End::Died(why) if report.ended_after(case.function) => {
                Err(format!("after its result: {why}"))
            }
            End::Finished | End::Hung(_) | End::Died(_) => Ok(()),
        },
        (Wanted::Pass, Some(Outcome::Failed(reason))) => Err(format!(
            "{reason}\n{}",
            found.map_or("", |found| found.log.as_str())
        )),
        (Wanted::Pass, None) => Err(format!("no result: {}", report.end)),
        (Wanted::FailWith(text), Some(Outcome::Failed(reason))) if reason.contains(text) => Ok(()),
        (Wanted::FailWith(text), other) => Err(format!(
            "wanted a failure with '{text}', found {other:?}, {}",
            report.end
        )),
        (Wanted::Hang, None) if matches!(report.end, End::Hung(_)) => Ok(()),
        (Wanted::Panic, None) if matches!(&report.end, End::Died(why) if why.contains("panic")) => {
            Ok(())
        }
        (Wanted::Hang | Wanted::Panic, other) => Err(format!(
            "wanted {:?}, found {other:?}, {}",
            case.wanted, report.end
        )),
    }
}

fn conclude(tally: &Tally, took: Duration) -> ExitCode {
    if !tally.failures.is_empty() {
        say("\nfailures:\n");
        for (name, why) in &tally.failures {
            say(&format!("---- {name} ----\n{why}\n"));
        }
        say("\nfailures:");
        for (name, _) in &tally.failures {
            say(&format!("    {name}"));
        }
    }
    let word = if tally.failures.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    say(&format!(
        "\ntest result: {word}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        tally.passed,
        tally.failures.len(),
        tally.ignored,
        tally.filtered,
        took.as_secs_f64()
    ));
    if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn result(name: &str, word: &str, took: Option<Duration>) {
    let took = took
        .map(|took| format!(" ({:.1} s)", took.as_secs_f64()))
        .unwrap_or_default();
    say(&format!("test {name} ... {word}{took}"));
}

/// One line for whoever watches; a closed pipe is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
