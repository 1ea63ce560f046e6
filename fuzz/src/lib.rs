//! What is fuzzed: plain functions from bytes to nothing, which panic when something is wrong.
//!
//! libFuzzer calls them through `fuzz_targets/`, and the project's own tests through
//! `tests/fuzz_corpus.rs`, which replays every file of `corpus/`.

pub mod bytes;
pub mod commands;
pub mod descriptors;
pub mod hostile_client;
pub mod hostile_server;
pub mod kernel;
pub mod ops;
pub mod rig;
pub mod seeds;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its directory below `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("usbip_commands", commands::commands),
    ("usbip_answers", commands::answers),
    ("usb_ops", ops::ops),
    ("usb_descriptors", descriptors::descriptors),
    ("hostile_server", hostile_server::hostile_server),
    ("hostile_client", hostile_client::hostile_client),
];
