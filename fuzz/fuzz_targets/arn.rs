//! An ARN from a path, percent-decoded: it must be answered, and what is read must have one spelling of its own.

#![no_main]

use domain::arn::ResourceArn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(read) = ResourceArn::parse(text) {
        let written = match &read {
            ResourceArn::Runtime(runtime) => runtime.to_string(),
            ResourceArn::Endpoint(endpoint) => endpoint.to_string(),
        };
        assert_eq!(ResourceArn::parse(&written).as_ref(), Ok(&read), "{text:?} was written as {written:?}");
    }
});
