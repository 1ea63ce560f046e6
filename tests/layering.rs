//! The layers hold: a lower one never names a higher one, the sans-IO ones touch neither the world
//! nor a clock nor randomness, and `unsafe` stays in `src/kernel/` (`docs/architecture.md`).

#[path = "layering/lexer.rs"]
mod lexer;
#[path = "layering/paths.rs"]
mod paths;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Each folder of `src/` and the others that it may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("session", &["wire"]),
    ("link", &["wire", "session"]),
    ("kernel", &["wire"]),
    ("transport", &["wire", "session", "link", "kernel"]),
    ("bus", &["wire", "link", "kernel"]),
    ("device", &["wire", "session", "kernel"]),
    (
        "daemon",
        &[
            "wire",
            "session",
            "link",
            "transport",
            "kernel",
            "bus",
            "device",
        ],
    ),
    (
        "cli",
        &[
            "wire",
            "session",
            "link",
            "transport",
            "kernel",
            "bus",
            "device",
            "daemon",
        ],
    ),
];

/// Bytes, time and randomness come into these as arguments.
const SANS_IO: &[&str] = &["wire", "session", "link"];

/// What reaches out of the process, reads a clock or draws randomness.
const OUTSIDE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "getrandom",
    "rand",
    "rand_core::OsRng",
    "ring::rand",
    "libc",
    "nix",
    "nusb",
    "sd_notify",
    "socket2",
    "tokio",
    "tokio_uring",
];

/// Of `std::io` only what works on memory.
const MEMORY_IO: &[&str] = &[
    "BufRead",
    "Cursor",
    "Error",
    "ErrorKind",
    "Read",
    "Result",
    "Write",
];

/// Names that draw randomness, wherever they come from.
const RANDOM_NAMES: &[&str] = &["OsRng", "SysRng", "SystemRandom", "ThreadRng", "thread_rng"];

/// Where the ring may be seen, so that another can take its place.
const RING: &[&str] = &["transport", "daemon"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Layer,
    WholeCrate,
    SansIo,
    Ring,
    Unsafe,
    ForbidUnsafe,
    PathAttribute,
    UnknownFolder,
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    rule: Rule,
    line: usize,
    what: String,
}

/// Where a file of `src/` stands in the module tree.
struct Place {
    module: Vec<String>,
    folder: Option<String>,
}

impl Place {
    /// Of a path below `src/`, such as `wire/frame/mod.rs`.
    fn of(file: &str) -> Self {
        let stem = file.strip_suffix(".rs").unwrap_or(file);
        let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        if module
            .last()
            .is_some_and(|last| last == "mod" || (module.len() == 1 && is_root(last)))
        {
            module.pop();
        }
        Self {
            folder: module.first().cloned(),
            module,
        }
    }
}

fn is_root(stem: &str) -> bool {
    stem == "lib" || stem == "main"
}

fn check(file: &str, source: &str, test_modules: &BTreeSet<Vec<String>>) -> Vec<Violation> {
    let place = Place::of(file);
    let tokens = lexer::tokens(source);
    let mut violations = Vec::new();
    let folder = place.folder.as_deref();
    if folder.is_some_and(|folder| !MAY_NAME.iter().any(|(name, _)| *name == folder)) {
        violations.push(Violation {
            rule: Rule::UnknownFolder,
            line: 1,
            what: file.to_owned(),
        });
    }
    check_tokens(file, folder, &tokens, &mut violations);
    let in_tests = (0..=place.module.len())
        .any(|length| test_modules.contains(place.module.get(..length).unwrap_or_default()));
    for named in paths::read(&place.module, &tokens).paths {
        let Some(folder) = folder else { continue };
        let test = in_tests || named.test;
        if let Some(rule) = judge(folder, &named.segments, test) {
            violations.push(Violation {
                rule,
                line: named.line,
                what: named.segments.join("::"),
            });
        }
    }
    violations
}

fn check_tokens(
    file: &str,
    folder: Option<&str>,
    tokens: &[lexer::Token],
    violations: &mut Vec<Violation>,
) {
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let has = |at: usize, expected: &[&str]| texts.get(at..at + expected.len()) == Some(expected);
    let sans_io = folder.is_some_and(|folder| SANS_IO.contains(&folder));
    for (at, token) in tokens.iter().enumerate() {
        let rule = if token.text == "unsafe" && folder != Some("kernel") {
            Rule::Unsafe
        } else if has(at, &["#", "[", "path", "="]) {
            Rule::PathAttribute
        } else if sans_io && RANDOM_NAMES.contains(&token.text.as_str()) {
            Rule::SansIo
        } else {
            continue;
        };
        violations.push(Violation {
            rule,
            line: token.line,
            what: token.text.clone(),
        });
    }
    let forbids = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
    let is_layer_root = sans_io && file.ends_with("/mod.rs") && file.matches('/').count() == 1;
    if is_layer_root && !(0..texts.len()).any(|at| has(at, &forbids)) {
        violations.push(Violation {
            rule: Rule::ForbidUnsafe,
            line: 1,
            what: file.to_owned(),
        });
    }
}

/// The rule that a path breaks where it stands in `folder`.
fn judge(folder: &str, segments: &[String], test: bool) -> Option<Rule> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (first, rest) = segments.split_first()?;
    if *first == "crate" || *first == "myclerk" {
        return judge_own(folder, rest);
    }
    if *first == "tokio_uring" && !RING.contains(&folder) && !test {
        return Some(Rule::Ring);
    }
    let outside = SANS_IO.contains(&folder) && !test && is_outside(&segments);
    outside.then_some(Rule::SansIo)
}

fn judge_own(folder: &str, rest: &[&str]) -> Option<Rule> {
    let Some(target) = rest.first().filter(|target| **target != "*") else {
        return Some(Rule::WholeCrate);
    };
    let allowed = MAY_NAME
        .iter()
        .find(|(name, _)| *name == folder)
        .map_or(&[][..], |(_, allowed)| *allowed);
    let is_layer = MAY_NAME.iter().any(|(name, _)| name == target);
    (is_layer && *target != folder && !allowed.contains(target)).then_some(Rule::Layer)
}

fn is_outside(segments: &[&str]) -> bool {
    let (body, glob) = match segments.split_last() {
        Some((&"*", body)) => (body, true),
        _ => (segments, false),
    };
    if let ["std", "io", rest @ ..] = body {
        return match rest.first() {
            Some(name) => !MEMORY_IO.contains(name),
            None => glob,
        };
    }
    OUTSIDE.iter().any(|outside| {
        let outside: Vec<&str> = outside.split("::").collect();
        body.starts_with(&outside) || (glob && outside.starts_with(body))
    })
}

/// Every file below `src/`, by its path there.
#[cfg(test)]
fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found
}

fn test_modules(sources: &[(String, String)]) -> BTreeSet<Vec<String>> {
    sources
        .iter()
        .flat_map(|(file, source)| {
            paths::read(&Place::of(file).module, &lexer::tokens(source)).test_modules
        })
        .collect()
}

#[test]
fn the_source_keeps_to_the_layers() {
    let sources = sources();
    assert!(sources.len() > MAY_NAME.len(), "the source was not found");
    let tests = test_modules(&sources);
    let mut report = String::new();
    for (file, source) in &sources {
        for Violation { rule, line, what } in check(file, source, &tests) {
            writeln!(report, "src/{file}:{line}: {what} ({rule:?})").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_layer_has_its_folder() {
    for (folder, _) in MAY_NAME {
        let root = format!("{}/src/{folder}/mod.rs", env!("CARGO_MANIFEST_DIR"));
        assert!(Path::new(&root).exists(), "{root}");
    }
}

fn rules(file: &str, source: &str) -> Vec<Rule> {
    check(file, source, &BTreeSet::new())
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_lower_layer_that_names_a_higher_one_is_found() {
    for (file, source) in [
        ("wire/frame.rs", "use crate::session::Session;"),
        ("wire/frame.rs", "use crate::{wire::flags, link::Link};"),
        ("wire/frame.rs", "fn f() { crate::daemon::start(); }"),
        ("wire/frame.rs", "use super::super::session;"),
        ("wire/frame/mod.rs", "fn f(x: super::super::bus::Outlet) {}"),
        (
            "session/seal.rs",
            "mod inner { use super::super::super::link; }",
        ),
        (
            "link/stream.rs",
            "#[cfg(test)] mod tests { use crate::transport::memory; }",
        ),
        ("kernel/vhci.rs", "use crate::session;"),
        ("transport/tcp.rs", "use crate::daemon::peer;"),
        ("bus/usb/op.rs", "use crate::device::Registry;"),
        ("device/acl.rs", "use myclerk::daemon;"),
        ("daemon/peer.rs", "use crate::cli::Args;"),
    ] {
        assert_eq!(rules(file, source), [Rule::Layer], "{file}: {source}");
    }
}

#[test]
fn the_whole_crate_is_not_a_name_to_import() {
    assert_eq!(
        rules("session/seal.rs", "use crate as c; fn f() { c::link::x() }"),
        [Rule::WholeCrate, Rule::Layer]
    );
    assert_eq!(rules("wire/a.rs", "use crate::*;"), [Rule::WholeCrate]);
    assert_eq!(
        rules("wire/a.rs", "use super::super::*;"),
        [Rule::WholeCrate]
    );
}

#[test]
fn a_sans_io_layer_that_touches_the_world_is_found() {
    for source in [
        "use std::net::TcpStream;",
        "use std::{collections::BTreeMap, fs::File};",
        "fn f() { std::thread::spawn(g); }",
        "fn f() { ::std::process::exit(1); }",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::time; fn f() { time::Instant::now(); }",
        "use std::time::*;",
        "use std::*;",
        "use std as s; fn f() { s::env::var(x); }",
        "use std::io; fn f() { io::stdout(); }",
        "use std::io::{Read, stdin};",
        "use std::io::*;",
        "use tokio::sync::mpsc;",
        "extern crate libc;",
        "fn f() { getrandom::fill(&mut x); }",
        "use ring::rand::SecureRandom;",
        "fn f() { rand::rng(); }",
        "use nix::time;",
        "use socket2;",
        "use nusb::Device;",
        "fn f() { EphemeralSecret::random_from_rng(OsRng) }",
    ] {
        for file in ["wire/a.rs", "session/a.rs", "link/a/b.rs"] {
            assert!(
                rules(file, source).contains(&Rule::SansIo),
                "{file}: {source}"
            );
        }
    }
}

#[test]
fn unsafe_outside_the_kernel_folder_is_found() {
    for file in [
        "wire/a.rs",
        "bus/usb/server.rs",
        "daemon/mod.rs",
        "lib.rs",
        "main.rs",
    ] {
        assert_eq!(
            rules(file, "fn f() { unsafe { g() } }")
                .iter()
                .filter(|rule| **rule == Rule::Unsafe)
                .count(),
            1,
            "{file}"
        );
    }
    assert_eq!(
        rules("bus/a.rs", "#[unsafe(no_mangle)] fn f() {}"),
        [Rule::Unsafe]
    );
    assert_eq!(rules("kernel/a.rs", "fn f() { unsafe { g() } }"), []);
}

#[test]
fn a_sans_io_layer_without_forbid_is_found() {
    for layer in SANS_IO {
        let root = format!("{layer}/mod.rs");
        for source in ["", "// #![forbid(unsafe_code)]", "#![deny(unsafe_code)]"] {
            assert_eq!(rules(&root, source), [Rule::ForbidUnsafe]);
        }
        assert_eq!(rules(&root, "#![forbid(unsafe_code)]"), []);
    }
}

#[test]
fn ways_around_the_layers_are_found() {
    assert_eq!(
        rules("wire/a.rs", "#[path = \"../daemon/peer.rs\"] mod peer;"),
        [Rule::PathAttribute]
    );
    assert_eq!(rules("helpers/a.rs", ""), [Rule::UnknownFolder]);
    assert_eq!(rules("helpers.rs", ""), [Rule::UnknownFolder]);
    assert_eq!(
        rules("bus/can/server.rs", "use tokio_uring::fs::File;"),
        [Rule::Ring]
    );
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (file, source) in [
        (
            "wire/a.rs",
            "use core::time::Duration; use std::time::Duration as D;",
        ),
        (
            "wire/a.rs",
            "use std::collections::BTreeMap; use std::io::{self, Read}; fn f() -> io::Result<()> {}",
        ),
        (
            "wire/a.rs",
            "//! crate::daemon\n/// [`crate::session`]\nconst A: &str = \"crate::bus unsafe\";",
        ),
        (
            "wire/a.rs",
            "fn f(x: X) { x.print(); x.daemon(); let tokio = 1; }",
        ),
        (
            "wire/a.rs",
            "#[cfg(test)] mod tests { fn f() { std::fs::read(x); } }",
        ),
        (
            "session/a/b.rs",
            "use super::super::clock; use crate::wire::time::Mono;",
        ),
        (
            "link/a.rs",
            "use crate::session::Session; use crate::link::stream;",
        ),
        (
            "transport/a.rs",
            "use crate::kernel::sockopt; use tokio_uring::net::TcpStream;",
        ),
        (
            "bus/a.rs",
            "use tokio::sync::mpsc; use crate::link::StreamId; use crate::kernel::vhci;",
        ),
        (
            "daemon/a.rs",
            "use crate::bus::Outlet; use crate::device::Registry; use std::fs;",
        ),
        ("cli/a.rs", "use crate::daemon::client;"),
        ("main.rs", "fn main() { myclerk::cli::run(); }"),
    ] {
        let found = rules(file, source);
        assert!(found.is_empty(), "{file}: {source}: {found:?}");
    }
}
