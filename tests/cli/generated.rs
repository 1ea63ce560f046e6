//! Completions and manual pages, which come from the definition of the command line.

use std::fs;
use std::process::Command;

use crate::support::Home;

/// What `--help` of a command lists as its subcommands.
fn subcommands(help: &str) -> Vec<&str> {
    let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    listed
        .lines()
        .take_while(|line| !line.is_empty())
        // A description goes on further to the right.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[test]
fn every_visible_subcommand_has_a_manual_page_and_no_other() {
    let home = Home::new();
    let dir = home.path().join("share/man1");
    let run = home.run(&["man", "--dir", dir.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");

    let mut wanted = vec!["myclerk.1".to_owned()];
    let help = home.run(&["--help"]).out;
    for name in subcommands(&help) {
        wanted.push(format!("myclerk-{name}.1"));
        let own = home.run(&[name, "--help"]).out;
        for action in subcommands(&own) {
            wanted.push(format!("myclerk-{name}-{action}.1"));
        }
    }
    assert!(wanted.len() > 25, "{wanted:?}");
    wanted.sort();
    let names = fs::read_dir(&dir).unwrap();
    let mut found: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, wanted);

    for name in &found {
        let page = fs::read_to_string(dir.join(name)).unwrap();
        assert!(page.contains(".TH "), "{name}");
        assert!(page.contains(".SH NAME"), "{name}");
        assert!(!page.contains("guard"), "{name}: a helper is shown");
    }
    let attach = fs::read_to_string(dir.join("myclerk-attach.1")).unwrap();
    for part in ["myclerk attach hub/", "\\-\\-json", "\\-\\-as"] {
        assert!(attach.contains(part), "{part}: {attach}");
    }
    let main = home.run(&["man"]).out;
    assert_eq!(main, fs::read_to_string(dir.join("myclerk.1")).unwrap());
}

#[test]
fn pages_that_cannot_be_written_say_where() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let run = home.run(&["man", "--dir", file.to_str().unwrap()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains(file.to_str().unwrap()), "{}", run.err);
}

#[test]
fn bash_takes_the_completions_and_completes_what_people_may_type() {
    let home = Home::new();
    let script = home.path().join("myclerk.bash");
    let run = home.run(&["completions", "bash"]);
    assert_eq!(run.code, 0, "{run:?}");
    fs::write(&script, &run.out).unwrap();
    let bash = |command: &str| {
        let output = Command::new("bash")
            .args(["--norc", "-c", command, "bash"])
            .arg(&script)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    bash("bash -n \"$1\"");
    let completed = bash("source \"$1\" && complete -p myclerk");
    assert!(completed.contains("-F _myclerk "), "{completed}");

    let words = bash(
        "source \"$1\"; COMP_WORDS=(myclerk ''); COMP_CWORD=1; \
         _myclerk myclerk '' myclerk; printf '%s\\n' \"${COMPREPLY[@]}\"",
    );
    let help = home.run(&["--help"]).out;
    for name in subcommands(&help) {
        assert!(words.lines().any(|word| word == name), "{name}: {words}");
    }
    let words = bash(
        "source \"$1\"; COMP_WORDS=(myclerk auto a); COMP_CWORD=2; \
         _myclerk myclerk a auto; printf '%s\\n' \"${COMPREPLY[@]}\"",
    );
    assert_eq!(words, "add\n");
}

#[test]
fn no_shell_completes_what_only_programs_start() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = home.run(&["completions", shell]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.out.contains("attach"), "{shell}");
        assert!(!run.out.contains("guard-devices"), "{shell}");
    }
    assert_eq!(home.run(&["completions", "tcsh"]).code, 2);
}
