//! See [`myclerk_fuzz::hostile_server::hostile_server`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::hostile_server::hostile_server(data));
