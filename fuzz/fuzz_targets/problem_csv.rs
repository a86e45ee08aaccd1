//! Any bytes read as a CSV problem file, with budgets for two resources.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rco_problems::file::parse_csv;

fuzz_target!(|bytes: &[u8]| {
    rco_fuzz::exercise(parse_csv(bytes, "file", &rco_fuzz::options(&["1KB"])));
    rco_fuzz::exercise(parse_csv(bytes, "file", &rco_fuzz::options(&["bytes=1KB", "us==9"])));
});
