//! Boots a guest through `scripts/lab`, follows its result lines and ends it when it stands still.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::plan::Boot;

/// Until the first case begins. Emulation on a busy machine is slow.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Between two cases, and from the last one to the guest's end.
const GAP_LIMIT: Duration = Duration::from_secs(60);
/// What a case gets over its own limit, which the guest itself enforces.
const SLACK: Duration = Duration::from_secs(30);
/// Two guests share the machine; their lines carry no limits.
const PAIR_LIMIT_S: u64 = 300;
/// The last resort against a guest that nobody watches any more.
const LAB_LIMIT_S: u64 = 1800;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
}

pub(crate) struct Found {
    name: String,
    pub outcome: Outcome,
    /// What the case printed.
    pub log: String,
    pub took: Duration,
}

/// How a guest ended.
pub(crate) enum End {
    Finished,
    Hung(String),
    Died(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the guest ended in order"),
            Self::Hung(why) => write!(f, "the guest hung: {why}"),
            Self::Died(why) => write!(f, "the guest died: {why}"),
        }
    }
}

pub(crate) struct Report {
    found: Vec<Found>,
    /// How many cases the guest was to run.
    asked: usize,
    /// A case began.
    started: bool,
    pub end: End,
}

impl Report {
    pub(crate) fn case(&self, name: &str) -> Option<&Found> {
        self.found.iter().find(|found| found.name == name)
    }

    /// Whether the guest died before anything of ours ran in it: emulators now and then lose a race
    /// with a kernel that patches itself while it boots.
    pub(crate) const fn died_booting(&self) -> bool {
        !self.started && matches!(self.end, End::Died(_))
    }

    /// Whether all cases had a result and this one's was the last: then the guest's end is its.
    pub(crate) fn ended_after(&self, name: &str) -> bool {
        self.found.len() == self.asked && self.found.last().is_some_and(|last| last.name == name)
    }
}

/// Boots a guest and runs the named cases of its script.
///
/// # Errors
/// When the guest's files cannot be made or `scripts/lab` cannot be started.
pub(crate) fn boot(
    lab: Command,
    boot: &Boot,
    cases: &[&str],
    echo: &mut dyn FnMut(&str),
) -> std::io::Result<Report> {
    // Sockets need a short path; images and sockets are gone with the directory.
    let scratch = tempfile::Builder::new().prefix("myclerk-vm-").tempdir()?;
    for (name, size) in boot.images {
        File::create(scratch.path().join(name))?.set_len(*size)?;
    }
    let logs = log_directory(boot.name);
    std::fs::create_dir_all(&logs)?;
    let mut child = command(lab, boot, cases, scratch.path(), &logs).spawn()?;
    let mut watch = Watch::new(lines_of(&mut child), scratch.path().join("qmp"));
    let hung = watch.follow(boot, echo);
    if hung.is_some() {
        watch.end_guest(&mut child);
    }
    let status = child.wait()?;
    let end = hung.map_or_else(|| end_of(status, &logs, &watch.log), End::Hung);
    Ok(Report {
        found: watch.found,
        asked: cases.len(),
        started: watch.started || boot.partner.is_some(),
        end,
    })
}

fn log_directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(name)
}

fn command(mut lab: Command, boot: &Boot, cases: &[&str], scratch: &Path, logs: &Path) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    let limit = if boot.partner.is_some() {
        PAIR_LIMIT_S
    } else {
        LAB_LIMIT_S
    };
    lab.arg(if boot.partner.is_some() {
        "pair"
    } else {
        "run"
    });
    lab.arg("--timeout")
        .arg(limit.to_string())
        .arg("--log")
        .arg(logs);
    lab.arg("--env")
        .arg(concat!("MYCLERK=", env!("CARGO_BIN_EXE_myclerk")));
    if std::env::var_os("MYCLERK_VM_THOROUGH").is_some_and(|value| value == "1") {
        lab.arg("--env").arg("LAB_THOROUGH=1");
    }
    if let Ok(harness) = std::env::current_exe() {
        lab.arg("--env")
            .arg(format!("VM_TOOLS={}", harness.display()));
    }
    let in_scratch = |word: &str| word.replace("{dir}", &scratch.to_string_lossy());
    lab.args(boot.options.iter().copied().map(in_scratch));
    let devices = if boot.partner.is_some() {
        "--qemu-a"
    } else {
        "--qemu"
    };
    for device in boot.devices {
        lab.arg(devices).arg(in_scratch(device));
    }
    lab.arg(devices).arg(format!(
        "-qmp unix:{}/qmp,server=on,wait=off",
        scratch.display()
    ));
    lab.arg("--env")
        .arg(format!("LAB_CASES={}", cases.join(" ")));
    lab.arg(scripts.join(boot.script));
    match boot.partner {
        Some(partner) => lab.arg(scripts.join(partner)),
        None => lab.args(cases),
    };
    lab.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    lab
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Why a guest ended by itself, from the lab's exit code and the console.
fn end_of(status: ExitStatus, logs: &Path, last_words: &str) -> End {
    let console: String = ["console.log", "a/console.log", "b/console.log"]
        .map(|name| std::fs::read(logs.join(name)).unwrap_or_default())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    let telling = ["Kernel panic", "BUG:", "Oops", "lab: "]
        .iter()
        .find_map(|word| console.lines().rfind(|line| line.contains(word)))
        .unwrap_or("nothing on its console");
    match status.code() {
        Some(0) => End::Finished,
        Some(124) => End::Hung("over the lab's own limit".to_owned()),
        code => End::Died(format!(
            "scripts/lab ended with {code:?}; console: {telling}\n{last_words}"
        )),
    }
}

struct Watch {
    lines: Receiver<String>,
    qmp: Qmp,
    found: Vec<Found>,
    log: String,
    began: Instant,
    deadline: Instant,
    waiting_for: String,
    started: bool,
}

impl Watch {
    fn new(lines: Receiver<String>, qmp: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            lines,
            qmp: Qmp {
                path: qmp,
                stream: None,
            },
            found: Vec::new(),
            log: String::new(),
            began: now,
            deadline: now + BOOT_LIMIT,
            waiting_for: "its first case".to_owned(),
            started: false,
        }
    }

    /// Reads until the guest ends, or until it misses a deadline, which is the result.
    fn follow(&mut self, boot: &Boot, echo: &mut dyn FnMut(&str)) -> Option<String> {
        if boot.partner.is_some() {
            self.deadline = self.began + Duration::from_secs(PAIR_LIMIT_S) + SLACK;
        }
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    echo(&line);
                    self.take(&line, boot.partner.is_some());
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    return Some(format!("no sign of {}", self.waiting_for));
                }
            }
        }
    }

    fn take(&mut self, line: &str, paired: bool) {
        let bare = if paired {
            line.get(3..).unwrap_or_default()
        } else {
            line
        };
        let (word, rest) = bare.split_once(' ').unwrap_or((bare, ""));
        match word {
            "BEGIN" => self.begin(rest, paired),
            "CASE" => self.end_case(rest, paired),
            "QMP" => self.command_qemu(rest),
            _ => {
                self.log.push_str(line);
                self.log.push('\n');
            }
        }
    }

    fn begin(&mut self, rest: &str, paired: bool) {
        let (name, limit) = rest.split_once(' ').unwrap_or((rest, ""));
        self.log.clear();
        self.started = true;
        self.began = Instant::now();
        self.expect(
            format!("the result of {name}"),
            paired,
            Duration::from_secs(limit.parse().unwrap_or(60)) + SLACK,
        );
    }

    fn end_case(&mut self, rest: &str, paired: bool) {
        let (name, verdict) = rest.split_once(' ').unwrap_or((rest, ""));
        let outcome = match verdict.strip_prefix("FAIL") {
            Some(reason) => Outcome::Failed(reason.trim().to_owned()),
            None if verdict == "ok" => Outcome::Passed,
            None => Outcome::Failed(format!("unreadable result '{verdict}'")),
        };
        self.found.push(Found {
            name: name.to_owned(),
            outcome,
            log: std::mem::take(&mut self.log),
            took: self.began.elapsed(),
        });
        self.expect("the next case or its end".to_owned(), paired, GAP_LIMIT);
    }

    fn expect(&mut self, what: String, paired: bool, limit: Duration) {
        self.waiting_for = what;
        if !paired {
            self.deadline = Instant::now() + limit;
        }
    }

    fn command_qemu(&mut self, json: &str) {
        if let Err(error) = self.qmp.send(json) {
            self.log
                .extend(["host: QMP ", json, ": ", &error.to_string(), "\n"]);
        }
    }

    /// QEMU obeys even when its guest does nothing any more.
    fn end_guest(&mut self, child: &mut Child) {
        if self.qmp.send(r#"{"execute":"quit"}"#).is_err() {
            drop(child.kill());
        }
    }
}

/// QEMU's monitor, opened at the first command.
struct Qmp {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Qmp {
    /// Sends one command and waits for its answer.
    fn send(&mut self, json: &str) -> std::io::Result<()> {
        if self.stream.is_none() {
            let stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            self.stream = Some(BufReader::new(stream));
            self.exchange(r#"{"execute":"qmp_capabilities"}"#)?;
        }
        self.exchange(json)
    }

    fn exchange(&mut self, json: &str) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        writeln!(stream.get_mut(), "{json}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 || line.contains("\"return\"") {
                return Ok(());
            }
            if line.contains("\"error\"") {
                return Err(std::io::Error::other(line));
            }
        }
    }
}
