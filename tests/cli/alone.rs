//! Without a daemon: what is printed, what is stored, the exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Home, Run};

#[test]
fn help_names_every_subcommand_and_exit_code() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!(help.code, 0);
    let subcommands = [
        "init",
        "invite",
        "join",
        "members",
        "revoke",
        "serve",
        "export",
        "unexport",
        "acl",
        "client",
        "list",
        "attach",
        "detach",
        "auto",
        "status",
        "doctor",
        "completions",
        "man",
    ];
    for subcommand in subcommands {
        assert!(
            help.out.contains(&format!("\n  {subcommand} ")),
            "{subcommand}"
        );
        let own = home.run(&[subcommand, "--help"]);
        assert_eq!(own.code, 0, "{subcommand}");
        assert!(own.out.contains("\nExamples:\n  myclerk "), "{}", own.out);
        assert!(own.out.contains("--json"), "{}", own.out);
    }
    for line in [
        "1  failed",
        "2  wrong usage",
        "3  the daemon",
        "4  refused",
        "5  not found",
    ] {
        assert!(help.out.contains(line), "{line}");
    }
}

#[test]
fn wrong_usage_exits_with_two() {
    let home = Home::new();
    let wrong: [&[&str]; 9] = [
        &[],
        &["dance"],
        &["export"],
        &["attach", "no-slash"],
        &["detach"],
        &["detach", "3", "--all"],
        &["invite", "--minutes", "11"],
        &["join", "not-a-token"],
        &["serve", "--listen", "localhost"],
    ];
    for args in wrong {
        let run = home.run(args);
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert_eq!(run.out, "", "{args:?}");
    }
}

#[test]
fn init_founds_a_family_once_and_then_says_what_exists() {
    let home = Home::new();
    let first = home.run(&["init", "--name", "hub", "--json"]).json();
    assert_eq!(
        (&first["created"], &first["node"]["name"]),
        (&true.into(), &"hub".into())
    );
    let second = home.run(&["init", "--name", "other", "--json"]);
    assert!(
        second.err.contains("a name cannot be changed"),
        "{}",
        second.err
    );
    let second = second.json();
    assert_eq!(second["created"], false);
    assert_eq!(
        (&second["node"], &second["family"]),
        (&first["node"], &first["family"])
    );

    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.state()), 0o700);
    for key in ["node.key", "family-root.key", "psk/1.key"] {
        assert_eq!(mode(home.state().join(key)), 0o600, "{key}");
    }
}

#[test]
fn nothing_that_init_prints_is_a_key() {
    let home = Home::new();
    let text = home.run(&["init"]).out + &home.run(&["init", "--json"]).out;
    for key in ["node.key", "family-root.key", "psk/1.key"] {
        let key = fs::read_to_string(home.state().join(key)).unwrap();
        assert!(!text.contains(key.trim()), "{text}");
    }
}

#[test]
fn without_a_daemon_its_users_say_so_and_how_to_start_it() {
    let home = Home::founded();
    let asking: [(&[&str], &str); 7] = [
        (&["status"], "sudo myclerk serve"),
        (&["list"], "sudo myclerk serve"),
        (&["list", "--local"], "sudo myclerk serve"),
        (&["invite"], "sudo myclerk serve"),
        (&["attach", "hub/usb:1:2"], "sudo myclerk client"),
        (&["detach", "--all"], "sudo myclerk client"),
        (&["detach", "0"], "sudo myclerk client"),
    ];
    for (args, mend) in asking {
        let run = home.run(args);
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.err.contains(mend), "{args:?}: {}", run.err);
    }
}

#[test]
fn rules_can_be_changed_without_a_daemon() {
    let home = Home::founded();
    let exported = home.run(&["export", "usb:1:2"]);
    assert_eq!(exported.out, "usb:1:2 is offered.\n");
    assert!(
        exported.err.contains("myclerk acl grant usb:1:2 NODE"),
        "{}",
        exported.err
    );
    assert_eq!(
        home.run(&["acl", "grant", "usb:1:2", "hub"]).out,
        "hub may use usb:1:2.\n"
    );
    let listed = home.run(&["acl", "list", "--json"]).json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["mode"]),
        (&"hub".into(), &"rw".into())
    );
    home.run(&["acl", "grant", "usb:1:2", "hub", "--mode", "none"]);
    let listed = home.run(&["acl", "list"]);
    assert_eq!(listed.out, "DEVICE   WHO  MODE\nusb:1:2  hub  none\n");
    assert_eq!(home.run(&["acl", "revoke", "usb:1:2", "hub"]).code, 0);
    assert_eq!(home.run(&["acl", "revoke", "usb:1:2", "hub"]).code, 5);
    assert_eq!(
        home.run(&["unexport", "usb:1:2"]).out,
        "usb:1:2 is no longer offered.\n"
    );
    assert_eq!(
        home.run(&["unexport", "usb:1:2"]).out,
        "usb:1:2 was not offered.\n"
    );
}

#[test]
fn what_is_not_there_exits_with_five_and_what_may_not_be_with_four() {
    let home = Home::founded();
    for args in [
        &["acl", "grant", "usb:1:2", "nobody"][..],
        &["revoke", "nobody"],
    ] {
        let run = home.run(args);
        assert_eq!(run.code, 5, "{args:?}: {run:?}");
        assert!(
            run.err.contains("\"nobody\"") && run.err.contains("myclerk members"),
            "{run:?}"
        );
    }
    let run = home.run(&["revoke", "hub"]);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn an_error_is_json_too_when_json_is_asked_for() {
    let home = Home::founded();
    let run = home.run(&["revoke", "nobody", "--json"]);
    assert_eq!((run.code, &*run.out), (5, ""));
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["error"]["kind"], "not-found");
    assert_eq!(error["error"]["mend"], "myclerk members");
}

#[test]
fn a_machine_that_is_not_set_up_is_told_how_to_be() {
    let home = Home::new();
    for args in [
        &["members"][..],
        &["export", "usb:1:2"],
        &["acl", "list"],
        &["revoke", "x"],
    ] {
        let run = home.run(args);
        assert_eq!(run.code, 1, "{args:?}: {run:?}");
        assert!(
            run.err.contains("try: myclerk init"),
            "{args:?}: {}",
            run.err
        );
    }
    assert!(!home.state().exists());
}

#[test]
fn a_damaged_file_is_named_and_not_touched() {
    let home = Home::founded();
    let path = home.state().join("acl.toml");
    fs::write(&path, "[[entry]\n").unwrap();
    for args in [
        &["acl", "list"][..],
        &["acl", "grant", "usb:1:2", "hub"],
        &["doctor"],
    ] {
        let run = home.run(args);
        assert_eq!(run.code, 1, "{args:?}: {run:?}");
        assert!(
            (run.out + &run.err).contains(&*path.to_string_lossy()),
            "{args:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "[[entry]\n", "{args:?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_hides_it() {
    let home = Home::founded();
    let key = home.state().join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let run = home.run(&["members"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.err
            .contains(&format!("try: chmod go-rwx {}", key.display())),
        "{}",
        run.err
    );
}

#[test]
fn a_token_is_read_from_standard_input_and_refused_when_damaged() {
    let home = Home::new();
    let run = home.run_with_input(&["join", "-"], "mc1:AAAA\n");
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("not copied completely"), "{}", run.err);
}

#[test]
fn a_member_cannot_join_a_second_family() {
    let home = Home::founded();
    let run = home.run(&["join", "mc1:AAAA"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(
        run.err.contains("already belongs to a family"),
        "{}",
        run.err
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::founded();
    let mut child = home
        .command(&["--help"])
        .env("LANG", "C")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let help = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stderr).contains("panicked"));

    let mut child = home
        .command(&["members"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, &*run.err), (0, ""));
}

#[test]
fn settings_come_from_files_then_environment_then_flags() {
    let home = Home::founded();
    let config = home.path().join("etc");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("a.toml"), "state = '/nonexistent/from-file'\n").unwrap();
    let mut from_file = home.command(&["members"]);
    from_file
        .env_remove("MYCLERK_STATE")
        .env("MYCLERK_CONFIG", &config);
    let run = Run::from(from_file.output().unwrap());
    assert!(run.err.contains("/nonexistent/from-file"), "{run:?}");
    let mut from_env = home.command(&["members"]);
    from_env.env("MYCLERK_CONFIG", &config);
    assert_eq!(Run::from(from_env.output().unwrap()).code, 0);
    let mut from_flag = home.command(&["members", "--state", "/nonexistent/from-flag"]);
    let run = Run::from(from_flag.output().unwrap());
    assert!(run.err.contains("/nonexistent/from-flag"), "{run:?}");

    fs::write(config.join("b.toml"), "stat = 'x'\n").unwrap();
    let mut wrong = home.command(&["members"]);
    wrong.env("MYCLERK_CONFIG", &config);
    let run = Run::from(wrong.output().unwrap());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.err.contains("b.toml") && run.err.contains("`stat`"),
        "{}",
        run.err
    );
}

#[test]
fn doctor_reports_every_check_and_fails_when_one_does() {
    let home = Home::founded();
    let run = home.run(&["doctor", "server", "--json"]);
    let checks: Value = serde_json::from_str(&run.out).unwrap();
    let find = |name: &str| {
        let all = checks.as_array().unwrap();
        all.iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
            .clone()
    };
    for name in [
        "io_uring",
        "vhci-hcd",
        "usbfs",
        "udev rules",
        "state",
        "clock",
        "group",
    ] {
        find(name);
    }
    assert_eq!(find("state")["verdict"], "ok");
    assert_eq!(find("server")["verdict"], "fail");
    assert_eq!(find("server")["mend"], "sudo myclerk serve");
    assert_eq!(find("client")["verdict"], "warn");
    assert_eq!(run.code, 1);
}

#[test]
fn rules_are_added_and_removed_without_a_daemon_and_comments_stay() {
    let home = Home::new();
    let file = home.path().join("no-settings/client.toml");
    let added = home.run(&[
        "auto",
        "add",
        "hub/usb:0781:*",
        "--group",
        "disk",
        "--mode",
        "0640",
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(
        added.out.starts_with("Rule 1 is added: device=usb:0781:*"),
        "{added:?}"
    );
    let own = format!("# Mine.\n{}", fs::read_to_string(&file).unwrap());
    fs::write(&file, &own).unwrap();
    let args = [
        "auto", "add", "--class", "serial", "--node", "hub", "--node", "shed", "--json",
    ];
    let second = home.run(&args).json();
    assert_eq!(second["number"], 2);
    assert_eq!(second["rule"]["nodes"][1], "shed");
    let listed = home.run(&["auto", "list", "--json"]).json();
    assert_eq!(listed["rules"][0]["rule"]["mode"], "0640");
    assert_eq!(listed["rules"][1], second);
    assert_eq!(home.run(&["auto", "remove", "2"]).code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), own);
    assert_eq!(home.run(&["auto", "remove", "2"]).code, 5);
    for wrong in [
        &["auto", "add"][..],
        &["auto", "add", "usb@1-4"],
        &["auto", "add", "hub/*", "--node", "shed"],
        &["auto", "add", "*", "--mode", "rw"],
        &["auto", "add", "*", "--group", "a b"],
    ] {
        let run = home.run(wrong);
        assert_eq!(run.code, 2, "{run:?}");
    }
    fs::write(&file, "[[").unwrap();
    let broken = home.run(&["auto", "add", "*"]);
    assert_eq!(broken.code, 1);
    assert!(
        broken.err.contains("client.toml is not understood"),
        "{broken:?}"
    );
    assert_eq!(home.run(&["auto", "list"]).code, 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "[[");
}
