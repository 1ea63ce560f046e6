//! See [`myclerk_fuzz::commands::answers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::commands::answers(data));
