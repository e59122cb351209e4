//! Model files: any bytes, and any bytes whose hashes have been made right; what parses is built
//! into a network. `models/` holds good ones to start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use safetensors::Dtype;
use strandline::annotate::Task;
use strandline::model::Model;
use strandline::model::file::ModelFile;
use strandline::model::map::Bytes;

fn parse(data: &[u8]) {
    let bytes = Bytes::copy_of(data).unwrap();
    let Ok(file) = ModelFile::parse(bytes, "fuzz") else {
        return;
    };
    file.check_payload().unwrap();
    let _ = file.graph();
    for (name, dtype, _, size) in file.tensors() {
        let region = file.tensor(&name, dtype).unwrap();
        assert_eq!(region.bytes().len(), size);
        assert_eq!(region.i8().len(), size);
        let sum = region.bytes().iter().fold(0u8, |a, &b| a.wrapping_add(b));
        std::hint::black_box(sum);
        let _ = (region.f32(), region.f16());
        let other = if dtype == Dtype::I8 {
            Dtype::F32
        } else {
            Dtype::I8
        };
        assert!(file.tensor(&name, other).is_err());
    }
    if let Ok(model) = Model::build(file) {
        let _ = Task::of_model(&model);
        let mut runner = model.spawn().unwrap();
        let length = model.manifest().multiple;
        let _ = runner.run(&vec![1; length]);
        let _ = runner.run_ids(&vec![1; length]);
    }
}

/// Sets both hashes right where their keys can be found.
fn seal(data: &mut [u8]) -> Option<()> {
    let length = u64::from_le_bytes(*data.first_chunk::<8>()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    if end > data.len() {
        return None;
    }
    let (header, payload) = data.split_at_mut(end);
    let place = |header: &[u8], key: &str| {
        let key = format!("\"strandline.{key}_blake3\":\"");
        let at = header
            .windows(key.len())
            .position(|w| w == key.as_bytes())?
            + key.len();
        (at + 64 <= header.len()).then_some(at..at + 64)
    };
    let own = place(header, "header")?;
    let of_payload = place(header, "payload")?;
    header[of_payload].copy_from_slice(blake3::hash(payload).to_hex().as_bytes());
    header[own.clone()].fill(b'0');
    let hash = blake3::hash(header).to_hex();
    header[own].copy_from_slice(hash.as_bytes());
    Some(())
}

fuzz_target!(|data: &[u8]| {
    parse(data);
    let mut sealed = data.to_vec();
    if seal(&mut sealed).is_some() {
        parse(&sealed);
    }
});
