//! Any bytes read as a JSON problem file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rco_problems::file::parse_json;

fuzz_target!(|bytes: &[u8]| {
    rco_fuzz::exercise(parse_json(bytes, "file", &rco_fuzz::options(&[])));
});
