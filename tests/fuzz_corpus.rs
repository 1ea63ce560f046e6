//! The targets of `fuzz/` in an ordinary test run: every file of the corpus, and a bounded number of
//! random inputs.
#![cfg(test)]

#[path = "../fuzz/src/lib.rs"]
pub mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::seeds::seeds;
use fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// More than this belongs elsewhere.
const MOST: (usize, u64) = (300, 500 << 10);

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn files(target: &str) -> Vec<PathBuf> {
    let directory = corpus(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort_unstable();
    files
}

fn named(name: &str) -> Target {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.expect("a target of that name").1
}

fn replay(name: &str) {
    let target = named(name);
    for file in files(name) {
        println!("{}", file.display());
        target(&fs::read(&file).expect("a readable file"));
    }
}

/// Random inputs, and seeds with some of their bytes replaced.
fn try_many(name: &'static str, cases: u32) {
    let target = named(name);
    let seeds: Vec<Vec<u8>> = seeds()
        .into_iter()
        .filter(|seed| seed.target == name)
        .map(|seed| seed.bytes)
        .collect();
    let damage = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8);
    let damaged = (proptest::sample::select(seeds), damage).prop_map(|(mut bytes, damage)| {
        for (at, byte) in damage {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes
    });
    let random = proptest::collection::vec(any::<u8>(), 0..300);
    // What breaks a target goes into the corpus instead.
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&prop_oneof![damaged, random], |bytes| {
            target(&bytes);
            Ok(())
        })
        .expect("no input breaks the target");
}

macro_rules! targets {
    ($($name:ident: $cases:literal,)*) => {
        $(
            mod $name {
                #[test]
                fn every_file_of_the_corpus_is_taken() {
                    super::replay(stringify!($name));
                }

                #[test]
                fn random_and_damaged_inputs_are_taken() {
                    super::try_many(stringify!($name), $cases);
                }
            }
        )*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(tried.as_slice(), targets);
        }
    };
}

targets! {
    usbip_commands: 256,
    usbip_answers: 1024,
    usb_ops: 1024,
    usb_descriptors: 256,
    hostile_server: 256,
    hostile_client: 256,
}

/// With `MYCLERK_WRITE_SEEDS` in the environment they are written instead.
#[test]
fn the_seeds_are_in_the_corpus_as_they_are_generated() {
    for seed in seeds() {
        let file = corpus(seed.target).join(&seed.name);
        if std::env::var_os("MYCLERK_WRITE_SEEDS").is_some() {
            fs::create_dir_all(corpus(seed.target)).expect("a directory");
            fs::write(&file, &seed.bytes).expect("a written seed");
        }
        let found = fs::read(&file).expect("a seed in the corpus");
        assert_eq!(found, seed.bytes, "{}", file.display());
    }
}

#[test]
fn the_corpus_stays_small() {
    let files: Vec<PathBuf> = TARGETS.iter().flat_map(|(name, _)| files(name)).collect();
    let bytes = files
        .iter()
        .map(|file| fs::metadata(file).expect("a file").len());
    assert!(files.len() <= MOST.0 && bytes.sum::<u64>() <= MOST.1);
}
