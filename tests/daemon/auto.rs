//! Devices that become local by themselves.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::machine::{Machine, eventually};

impl Machine {
    fn rules_file(&self) -> PathBuf {
        self.path().join("no-settings/client.toml")
    }

    fn rules(&self, text: &str) {
        fs::create_dir_all(self.rules_file().parent().unwrap()).unwrap();
        fs::write(self.rules_file(), text).unwrap();
    }

    /// No kernel tells of these devices: somebody has to look.
    fn look(&self) {
        assert_eq!(self.run(&["list", "--local"]).code, 0);
    }

    fn unplug(&self, device: &str) {
        fs::remove_file(self.hardware().join(device.replace(':', "/"))).unwrap();
        self.look();
    }

    /// The attached devices, as `NODE/DEVICE`.
    fn has(&self) -> Vec<String> {
        let attached = self.attached();
        let path = |device: &Value| {
            let node = device["node"]["name"].as_str().unwrap();
            format!("{node}/{}", device["device"].as_str().unwrap())
        };
        attached.as_array().unwrap().iter().map(path).collect()
    }

    fn gets(&self, device: &str) {
        eventually(&format!("{device} is attached"), || {
            self.has().contains(&device.to_owned()).then_some(())
        });
    }

    fn auto(&self) -> Value {
        self.run(&["auto", "list", "--json"]).json()
    }
}

const ECHO: &str = "[[client.attach]]\nclass = 'echo'\nnode = 'hub'\n";

#[test]
fn a_device_appears_without_attach_and_again_when_it_comes_back() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    hub.plug("choir:all");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    for device in ["echo:one", "choir:all"] {
        hub.share(device, "laptop", "rw");
    }
    laptop.rules("[[client.attach]]\ndevice = 'echo:o*'\nname = 'it'\noptions.word = 'hello'\n");
    let client = laptop.user();
    laptop.gets("hub/echo:one");
    let file = laptop.run_dir().join("it");
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
    assert_eq!(laptop.has(), ["hub/echo:one"], "no rule wants the choir");
    assert_eq!(laptop.attached()[0]["auto"], true);
    client.says("attached by itself");

    assert_eq!(hub.run(&["acl", "revoke", "echo:one", "laptop"]).code, 0);
    eventually("it is lost", || laptop.has().is_empty().then_some(()));
    assert!(!file.exists());
    hub.share("echo:one", "laptop", "rw");
    laptop.gets("hub/echo:one");
    assert!(file.exists());
}

#[test]
fn of_two_nodes_the_preferred_one_is_taken_and_else_the_other() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _at_hub = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let shed = hub.admit("shed");
    shed.plug("echo:one");
    let at_shed = shed.server();
    let members = hub.run(&["members", "--json"]).json();
    let member = |member: &&Value| member["name"] == "laptop";
    let found = members.as_array().unwrap().iter().find(member).unwrap();
    shed.share("echo:one", found["id"].as_str().unwrap(), "rw");
    laptop.rules(&format!(
        "[client.connect]\nshed = '{}'\n\
         [[client.attach]]\nclass = 'echo'\nnodes = ['shed', 'hub', 'attic']\n",
        at_shed.address()
    ));
    let _client = laptop.user();
    laptop.gets("shed/echo:one");
    assert_eq!(laptop.has().len(), 1);
    let auto = laptop.auto();
    let rule = &auto["rules"][0];
    assert_eq!(rule["notes"], json!(["no node is called \"attic\""]));
    let states = rule["devices"].as_array().unwrap().iter();
    let mut states: Vec<_> = states.map(|device| device["state"].clone()).collect();
    states.sort_by_key(Value::to_string);
    assert_eq!(states, ["attached", "elsewhere"]);
    drop(at_shed);
    laptop.gets("hub/echo:one");
}

#[test]
fn what_was_detached_by_hand_stays_away_until_it_is_plugged_in_anew() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:*", "laptop", "rw");
    laptop.rules(ECHO);
    let _client = laptop.user();
    laptop.gets("hub/echo:one");
    let detached = laptop.run(&["detach", "hub/echo:one"]);
    assert!(
        detached
            .out
            .contains("stays so until it is plugged in anew"),
        "{detached:?}"
    );
    hub.plug("echo:two");
    hub.look();
    laptop.gets("hub/echo:two");
    assert_eq!(laptop.has(), ["hub/echo:two"]);
    let of_one = || {
        let auto = laptop.auto();
        let devices = auto["rules"][0]["devices"].as_array().unwrap().clone();
        devices
            .into_iter()
            .find(|device| device["device"] == "echo:one")
    };
    assert_eq!(of_one().unwrap()["state"], "put-away");
    hub.unplug("echo:one");
    eventually("it is gone", || of_one().is_none().then_some(()));
    hub.plug("echo:one");
    hub.look();
    laptop.gets("hub/echo:one");
}

#[test]
fn a_broken_file_is_told_of_and_the_old_rules_stay() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:*", "laptop", "rw");
    laptop.rules(ECHO);
    let client = laptop.user();
    laptop.gets("hub/echo:one");
    let problem = || laptop.run(&["status", "--json"]).json()["client"]["rules_problem"].clone();
    assert_eq!(problem(), Value::Null);
    laptop.rules(&format!("{ECHO}mode = 'rw'\n"));
    let told = eventually("the problem is told", || {
        problem().as_str().map(str::to_owned)
    });
    assert!(
        told.contains("client.toml") && told.contains("mode = \"rw\""),
        "{told}"
    );
    let status = laptop.run(&["status"]);
    assert!(
        status.out.contains("the rules from before go on"),
        "{status:?}"
    );
    let doctor = laptop.run(&["doctor"]);
    assert!(doctor.out.contains("mode = \"rw\""), "{doctor:?}");
    hub.plug("echo:two");
    hub.look();
    laptop.gets("hub/echo:two");
    assert_eq!(client.lines("rules not understood"), 1, "{}", client.log());

    laptop.rules("[[client.attach]]\nclass = 'choir'\n");
    eventually("the file is read again", || {
        problem().is_null().then_some(())
    });
    assert_eq!(laptop.has().len(), 2, "what is attached stays");
    assert_eq!(
        laptop.auto()["rules"][0]["rule"],
        json!({ "class": "choir" })
    );
}

#[test]
fn what_cannot_be_attached_is_tried_again_ever_more_rarely() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    laptop.rules(&format!("{ECHO}as = 'singer'\n"));
    let client = laptop.user();
    client.says("not attached by itself");
    let failed = eventually("why is told", || {
        let auto = laptop.auto();
        let device = auto["rules"][0]["devices"][0].clone();
        (device["state"] == "failed").then_some(device)
    });
    assert!(
        failed["why"]
            .as_str()
            .unwrap()
            .contains("speaker or listener"),
        "{failed}"
    );
    laptop.rules(ECHO);
    laptop.gets("hub/echo:one");
    assert_eq!(
        client.lines("not attached by itself"),
        1,
        "{}",
        client.log()
    );
}

#[test]
fn who_queues_by_rule_gets_the_device_when_it_is_given_back() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let users = ["laptop", "desk"].map(|name| {
        let machine = hub.admit(name);
        hub.share("echo:one", name, "rw");
        machine.rules(&format!("{ECHO}lock = true\n"));
        machine
    });
    let [laptop, desk] = &users;
    let _first = laptop.user();
    laptop.gets("hub/echo:one");
    let _second = desk.user();
    let who = |what: &str| {
        hub.run(&["who", "--json"])
            .json()
            .to_string()
            .contains(what)
    };
    eventually("the desk stands in the queue", || {
        who("\"desk\"").then_some(())
    });
    assert_eq!(desk.has(), Vec::<String>::new());
    assert_eq!(laptop.run(&["detach", "--all"]).code, 0);
    desk.gets("hub/echo:one");
    assert_eq!(laptop.has(), Vec::<String>::new(), "it was put away there");
}
