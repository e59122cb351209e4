//! The examples run and find what they assert.

#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/live_chunks.rs"]
mod live_chunks;
#[allow(dead_code)] // Its main reads the command line.
#[path = "../examples/own_model.rs"]
mod own_model;

#[test]
fn embed() {
    embed::main().unwrap();
}

#[test]
fn live_chunks() {
    live_chunks::main().unwrap();
}

#[test]
fn own_model() {
    own_model::run(&own_model::repository().join("models/promoter.safetensors")).unwrap();
}
