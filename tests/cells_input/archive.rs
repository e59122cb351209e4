//! Zip archives and NumPy's arrays, written from their specifications.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write;

/// A zip archive, written from the specification; `zip64` puts sizes into extra fields, as NumPy
/// does in the members' own headers.
pub fn zip(members: &[(&str, Vec<u8>)], deflated: bool, zip64: bool) -> Vec<u8> {
    let (mut bytes, mut directory) = (vec![], vec![]);
    for (name, content) in members {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let packed = if deflated {
            let mut encoder = DeflateEncoder::new(vec![], Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else {
            content.clone()
        };
        let sizes = [packed.len() as u64, content.len() as u64];
        let mut extra = vec![];
        let mut fields = [sizes[0] as u32, sizes[1] as u32];
        if zip64 {
            fields = [u32::MAX; 2];
            extra.extend([1, 0, 16, 0]);
            extra.extend(sizes[1].to_le_bytes());
            extra.extend(sizes[0].to_le_bytes());
        }
        let mut common = vec![45, 0, 0, 0, if deflated { 8 } else { 0 }, 0, 0, 0, 0x21, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend(fields.map(u32::to_le_bytes).concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend((extra.len() as u16).to_le_bytes());
        let start = (bytes.len() as u32).to_le_bytes();
        for (out, magic) in [(&mut bytes, b"PK\x03\x04"), (&mut directory, b"PK\x01\x02")] {
            out.extend(magic);
            if magic == b"PK\x01\x02" {
                out.extend([45, 3]);
            }
            out.extend(&common);
            if magic == b"PK\x01\x02" {
                out.extend([0; 10]);
                out.extend(start);
            }
            out.extend(name.as_bytes());
            out.extend(&extra);
        }
        bytes.extend(packed);
    }
    let (start, size) = (bytes.len() as u64, directory.len() as u64);
    let count = members.len() as u64;
    bytes.extend(directory);
    let mut end = ((count as u16), (size as u32), (start as u32));
    if zip64 {
        let record = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([count, count, size, start].map(u64::to_le_bytes).concat());
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(record.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        end = (u16::MAX, u32::MAX, u32::MAX);
    }
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([end.0; 2].map(u16::to_le_bytes).concat());
    bytes.extend([end.1, end.2].map(u32::to_le_bytes).concat());
    bytes.extend([0, 0]);
    bytes
}

/// An array in NumPy's format, version 1 to 3.
pub fn npy(version: u8, descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = [b"\x93NUMPY", &[version, 0][..]].concat();
    let length = (header.len() as u32).to_le_bytes();
    bytes.extend(&length[..if version == 1 { 2 } else { 4 }]);
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

pub fn texts(version: u8, texts: &[&str]) -> Vec<u8> {
    let width = texts
        .iter()
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(1);
    let mut elements = vec![];
    for text in texts {
        let mut letters: Vec<u32> = text.chars().map(u32::from).collect();
        letters.resize(width, 0);
        elements.extend(letters.iter().flat_map(|letter| letter.to_le_bytes()));
    }
    let (descr, shape) = (format!("<U{width}"), format!("({},)", texts.len()));
    npy(version, &descr, &shape, &elements)
}

pub fn integers(numbers: &[i64]) -> Vec<u8> {
    let elements: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    npy(1, "<i8", &format!("({},)", numbers.len()), &elements)
}

pub fn floats(numbers: &[f32]) -> Vec<u8> {
    let elements: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    npy(2, "<f4", &format!("({},)", numbers.len()), &elements)
}
