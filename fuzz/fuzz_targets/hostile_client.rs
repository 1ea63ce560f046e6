//! See [`myclerk_fuzz::hostile_client::hostile_client`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| myclerk_fuzz::hostile_client::hostile_client(data));
