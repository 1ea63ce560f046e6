//! Every path that a source file names, resolved as far as its own `use` declarations allow.

use std::collections::BTreeMap;

use crate::lexer::Token;

/// A path as the file means it: `["crate", "wire", ..]`, `["std", "fs", ..]`. A glob ends in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Stands in code that is compiled only for tests.
    pub(crate) test: bool,
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) paths: Vec<Named>,
    /// Modules in other files that are compiled only for tests.
    pub(crate) test_modules: Vec<Vec<String>>,
}

/// Reads a file whose module path below the crate root is `module`.
pub(crate) fn read(module: &[String], tokens: &[Token]) -> File {
    let mut scan = Scan {
        tokens,
        at: 0,
        modules: vec![Module {
            path: module.to_vec(),
            end: tokens.len(),
        }],
        test_until: 0,
        found: Vec::new(),
        aliases: BTreeMap::new(),
        test_modules: Vec::new(),
    };
    scan.run();
    let aliases = scan.aliases;
    let paths = scan
        .found
        .into_iter()
        .map(|(mut named, is_use)| {
            if !is_use {
                expand(&mut named.segments, &aliases);
            }
            named
        })
        .collect();
    File {
        paths,
        test_modules: scan.test_modules,
    }
}

/// Replaces an imported first name by what it was imported from.
fn expand(segments: &mut Vec<String>, aliases: &BTreeMap<String, Vec<String>>) {
    let Some(full) = segments.first().and_then(|first| aliases.get(first)) else {
        return;
    };
    segments.splice(..1, full.iter().cloned());
}

struct Module {
    path: Vec<String>,
    /// The token after its closing brace.
    end: usize,
}

struct Scan<'a> {
    tokens: &'a [Token],
    at: usize,
    modules: Vec<Module>,
    test_until: usize,
    found: Vec<(Named, bool)>,
    aliases: BTreeMap<String, Vec<String>>,
    test_modules: Vec<Vec<String>>,
}

impl Scan<'_> {
    fn run(&mut self) {
        while self.at < self.tokens.len() {
            while self
                .modules
                .last()
                .is_some_and(|module| module.end <= self.at)
            {
                self.modules.pop();
            }
            match self.text(self.at) {
                "#" if self.is_cfg_test() => {
                    self.test_until = self.test_until.max(self.item_end(self.at));
                    self.at += 1;
                }
                "use" => {
                    self.at += 1;
                    self.tree(&[], true);
                }
                "extern" if self.text(self.at + 1) == "crate" => {
                    self.at += 2;
                    self.tree(&[], true);
                }
                "mod" => self.module(),
                "." => self.at += 2,
                "::" => self.tree(&[], false),
                _ if self.is_name(self.at) => self.tree(&[], false),
                _ => self.at += 1,
            }
        }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn is_name(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(Token::is_name)
    }

    /// `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
    fn is_cfg_test(&self) -> bool {
        let opens = ["#", "[", "cfg", "("];
        let starts = |at: usize, texts: &[&str]| {
            texts
                .iter()
                .enumerate()
                .all(|(index, text)| self.text(at + index) == *text)
        };
        starts(self.at, &opens)
            && (starts(self.at + 4, &["test", ")"])
                || starts(self.at + 4, &["all", "(", "test", ","]))
    }

    /// The token after the item that starts with the attribute at `at`.
    fn item_end(&self, at: usize) -> usize {
        let mut depth = 0;
        for index in at..self.tokens.len() {
            match self.text(index) {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return index + 1;
                    }
                }
                ";" if depth == 0 => return index + 1,
                _ => {}
            }
        }
        self.tokens.len()
    }

    fn module(&mut self) {
        let (name, opens) = (self.text(self.at + 1).to_owned(), self.text(self.at + 2));
        let mut path = self.current().to_vec();
        path.push(name);
        if opens == "{" {
            let end = self.item_end(self.at);
            self.modules.push(Module { path, end });
        } else if self.at < self.test_until {
            self.test_modules.push(path);
        }
        self.at += 2;
    }

    fn current(&self) -> &[String] {
        self.modules.last().map_or(&[], |module| &module.path)
    }

    /// A path at the current token, or a tree of them, below `prefix`.
    fn tree(&mut self, prefix: &[String], is_use: bool) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut segments = prefix.to_vec();
        loop {
            match self.text(self.at) {
                "::" => self.at += 1,
                "*" if is_use => {
                    segments.push("*".to_owned());
                    self.at += 1;
                    return self.note(segments, line, is_use);
                }
                "{" if is_use => return self.group(&segments),
                _ if self.is_name(self.at) => {
                    segments.push(self.text(self.at).to_owned());
                    self.at += 1;
                    if self.text(self.at) != "::" {
                        return self.note(segments, line, is_use);
                    }
                }
                _ => return self.note(segments, line, is_use),
            }
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "}" => {
                    self.at += 1;
                    return;
                }
                "," => self.at += 1,
                _ => {
                    let before = self.at;
                    self.tree(prefix, true);
                    self.at = self.at.max(before + 1);
                }
            }
        }
    }

    fn note(&mut self, mut segments: Vec<String>, line: usize, is_use: bool) {
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        if segments.is_empty() || (!is_use && segments.len() == 1) {
            return;
        }
        let segments = self.absolute(segments);
        if is_use {
            let renamed = self.text(self.at) == "as";
            let name = if renamed {
                self.at += 2;
                self.text(self.at - 1).to_owned()
            } else {
                segments.last().cloned().unwrap_or_default()
            };
            self.aliases.insert(name, segments.clone());
        }
        let test = self.at <= self.test_until;
        self.found.push((
            Named {
                segments,
                line,
                test,
            },
            is_use,
        ));
    }

    /// Turns `self::` and `super::` into paths from the crate root.
    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let mut base = self.current().to_vec();
        let ups = segments
            .iter()
            .take_while(|segment| *segment == "self" || *segment == "super")
            .inspect(|segment| {
                if *segment == "super" {
                    base.pop();
                }
            })
            .count();
        if ups == 0 {
            return segments;
        }
        std::iter::once("crate".to_owned())
            .chain(base)
            .chain(segments.into_iter().skip(ups))
            .collect()
    }
}

#[cfg(test)]
fn names(module: &[&str], source: &str) -> Vec<String> {
    let module: Vec<String> = module.iter().map(ToString::to_string).collect();
    read(&module, &crate::lexer::tokens(source))
        .paths
        .into_iter()
        .map(|named| named.segments.join("::"))
        .collect()
}

#[test]
fn use_trees_are_taken_apart() {
    assert_eq!(
        names(
            &[],
            "use crate::{a, b::{self, c as d}, e::*}; use ::f::g; use h;"
        ),
        [
            "crate::a",
            "crate::b",
            "crate::b::c",
            "crate::e::*",
            "f::g",
            "h"
        ]
    );
}

#[test]
fn imported_names_are_followed() {
    assert_eq!(
        names(
            &[],
            "use std::io; use std as s; fn f() { io::stdout(); s::fs::read(); x.io(); }"
        ),
        ["std::io", "std", "std::io::stdout", "std::fs::read"]
    );
}

#[test]
fn relative_paths_start_at_the_module_they_stand_in() {
    assert_eq!(
        names(
            &["wire", "frame"],
            "use super::super::daemon; mod inner { fn f() { super::super::x::y(); self::z(); } } \
             fn g() { super::h(); }"
        ),
        [
            "crate::daemon",
            "crate::wire::x::y",
            "crate::wire::frame::inner::z",
            "crate::wire::h"
        ]
    );
}

#[test]
fn test_code_is_told_from_the_rest() {
    let source = "use a::b; #[cfg(test)] mod tests { use c::d; } #[cfg(test)] mod more; \
                  #[cfg(not(test))] mod real { use e::f; }";
    let file = read(&["m".to_owned()], &crate::lexer::tokens(source));
    let tests: Vec<bool> = file.paths.iter().map(|named| named.test).collect();
    assert_eq!(tests, [false, true, false]);
    assert_eq!(file.test_modules, [["m", "more"]]);
}
