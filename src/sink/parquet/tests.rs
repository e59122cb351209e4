use super::ROWS;
use crate::call::{Call, CallKind, Flags, Strand};
use crate::sink::{CallWriter, Format, ModelTag};
use parquet::basic::{Compression, ConvertedType, Encoding, Repetition};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use std::fs::File;
use std::io::Write;

/// A row: read, start, end, strand, kind, score, model, flags, labels.
type Row = (
    String,
    u64,
    u64,
    String,
    String,
    f32,
    String,
    String,
    Vec<String>,
);

/// The rows of a file, and how many are in each row group.
fn read(bytes: &[u8]) -> (Vec<Row>, Vec<i64>, SerializedFileReader<File>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let text = |column| row.get_string(column).unwrap().clone();
        let place = |column| row.get_ulong(column).unwrap();
        (
            text(0),
            place(1),
            place(2),
            text(3),
            text(4),
            row.get_float(5).unwrap(),
            text(6),
            text(7),
            (8..row.len()).map(text).collect(),
        )
    });
    let rows = rows.collect();
    let groups = reader.metadata().row_groups();
    let groups = groups.iter().map(|group| group.num_rows()).collect();
    (rows, groups, reader)
}

fn writer() -> CallWriter<Vec<u8>> {
    let models = ["splice", "utr"].map(|name| ModelTag {
        name: name.into(),
        version: "1.0".into(),
        base_rates: vec![],
    });
    CallWriter::new(vec![], Format::Parquet, models.into())
}

/// A call that differs from its neighbours in every column.
fn call(number: u64) -> Call {
    let flags = [
        Flags::NONE,
        Flags::SHORT_CONTEXT | Flags::AMBIGUOUS,
        Flags::FAST_TIER,
    ];
    Call {
        start: number * 7,
        end: number * 7 + 1 + number % 2,
        strand: [Strand::Forward, Strand::Reverse][(number % 2) as usize],
        kind: CallKind::ALL[(number % 6) as usize],
        score: 1.0 / (number as f32 + 1.0),
        flags: flags[(number % 3) as usize],
        model: (number % 2) as u8,
    }
}

fn row(name: &str, call: &Call, labels: &[&str]) -> Row {
    (
        name.to_string(),
        call.start,
        call.end,
        call.strand.to_string(),
        call.kind.to_string(),
        call.score,
        ["splice/1.0", "utr/1.0"][usize::from(call.model)].to_string(),
        call.flags.to_string(),
        labels.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn every_call_is_a_row_of_a_group_of_bounded_size() {
    let count = 2 * ROWS as u64 + 7;
    let calls: Vec<Call> = (0..count).map(call).collect();
    let mut writer = writer();
    writer.header().unwrap();
    let mut expected = vec![];
    // Reads of several portions, across the limits of row groups; two of one name.
    let names: [(&[u8], &str); 4] = [
        (b"a", "a"),
        (b"#b", "#b"),
        (b"a", "a"),
        (b"c\xff", "c\u{fffd}"),
    ];
    for ((bytes, name), portion) in names.iter().cycle().zip(calls.chunks(999)) {
        for half in portion.chunks(500) {
            writer.write_calls(bytes, half).unwrap();
        }
        expected.extend(portion.iter().map(|call| row(name, call, &[])));
    }
    assert_eq!((writer.written(), writer.left_out()), (count, 0));
    let bytes = writer.finish().unwrap();
    let (rows, groups, _) = read(&bytes);
    assert_eq!(groups, [ROWS as i64, ROWS as i64, 7]);
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
}

#[test]
fn a_row_group_leaves_when_it_is_full() {
    let mut writer = writer();
    let calls: Vec<Call> = (0..ROWS as u64).map(call).collect();
    writer.write_calls(b"a", &calls[1..]).unwrap();
    assert_eq!(writer.writer.len(), 0);
    writer.write_calls(b"a", &calls[..1]).unwrap();
    assert!(writer.writer.len() > ROWS);
    let (rows, groups, _) = read(&writer.finish().unwrap());
    assert_eq!((rows.len(), groups), (ROWS, vec![ROWS as i64]));
}

#[test]
fn columns_have_the_types_of_the_arrow_batches() {
    let labels = [("sample", "P7"), ("run", "")];
    let labels = labels.map(|(key, value)| (key.to_string(), value.to_string()));
    let mut writer = writer().labelled(&labels);
    // What unsigned numbers alone can hold.
    let mut far = call(3);
    far.end = u64::MAX;
    writer.write_calls(b"", &[call(2), far]).unwrap();
    let (rows, _, reader) = read(&writer.finish().unwrap());
    let expected = [call(2), far].map(|call| row(".", &call, &["P7", ""]));
    assert_eq!(rows, expected);
    let schema = reader.metadata().file_metadata().schema_descr();
    let columns: Vec<(&str, ConvertedType)> = schema
        .columns()
        .iter()
        .map(|column| (column.name(), column.converted_type()))
        .collect();
    let (text, place) = (ConvertedType::UTF8, ConvertedType::UINT_64);
    let expected = [
        ("read", text),
        ("start", place),
        ("end", place),
        ("strand", text),
        ("kind", text),
        ("score", ConvertedType::NONE),
        ("model", text),
        ("flags", text),
        ("sample", text),
        ("run", text),
    ];
    assert_eq!(columns, expected);
    let fields = schema.root_schema().get_fields();
    let required = |field: &parquet::schema::types::TypePtr| {
        field.get_basic_info().repetition() == Repetition::REQUIRED
    };
    assert!(fields.iter().all(required));
    let group = reader.metadata().row_group(0);
    for (index, column) in group.columns().iter().enumerate() {
        assert_eq!(column.compression(), Compression::SNAPPY);
        let dictionary = column.encodings().any(|e| e == Encoding::RLE_DICTIONARY);
        assert_eq!(dictionary, ![1, 2, 5].contains(&index), "column {index}");
    }
}

#[test]
fn a_table_without_calls_is_one() {
    let (rows, groups, reader) = read(&writer().finish().unwrap());
    assert!(rows.is_empty() && groups.is_empty());
    assert_eq!(
        reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .num_columns(),
        8
    );
}
