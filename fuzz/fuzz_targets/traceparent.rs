//! The header with a caller's trace: it must be answered, and what is read must have one spelling of its own.

#![no_main]

use domain::TraceParent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    if let Some(read) = TraceParent::parse(header) {
        let written = read.to_string();
        assert_eq!(TraceParent::parse(&written), Some(read), "{header:?} was written as {written:?}");
        assert_eq!(written[2..53], header[2..53]);
    }
});
