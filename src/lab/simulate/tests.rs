use super::*;
use crate::call::CallKind;

const KINDS: [CallKind; 2] = [CallKind::Donor, CallKind::Acceptor];

/// Two genes of random bases with a site about every hundred bases.
fn genes() -> (Vec<(String, Vec<u8>)>, GeneSites) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut table = String::from("gene_idx\tgene\tchrom\tstrand\tpos0\tkind\n");
    let mut genes = Vec::new();
    for (id, symbol, length) in [("g1", "ABC1", 30_000), ("g2", "X Y", 9_000)] {
        let codes: Vec<u8> = (0..length).map(|_| (rng.next_u32() >> 30) as u8).collect();
        for position in (0..length).filter(|p| p % 97 == 11) {
            let kind = KINDS[position % 2];
            table += &format!("{id}\t{symbol}\tchr1\t+\t{position}\t{kind}\n");
        }
        genes.push((id.to_owned(), codes));
    }
    (genes, GeneSites::read(table.as_bytes(), "sites").unwrap())
}

fn simulator(error_rate: f64) -> Simulator {
    let (genes, sites) = genes();
    let config = SimulationConfig {
        reads: 60,
        error_rate,
        errors: Errors::Uniform,
        seed: 3,
    };
    Simulator::new(genes, &sites, config).unwrap()
}

fn reads(error_rate: f64, count: u64) -> Vec<SimulatedRead> {
    let simulator = simulator(error_rate);
    (0..count)
        .map(|index| {
            let mut read = SimulatedRead::default();
            simulator.read(index, &mut read);
            read
        })
        .collect()
}

/// Gene, strand, start and end out of a read's name.
fn origin(name: &str) -> (String, Strand, usize, usize) {
    let (rest, range) = name.rsplit_once('_').unwrap();
    let (rest, strand) = rest.rsplit_once('_').unwrap();
    let (_, gene) = rest.split_once('_').unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let strand = match strand {
        "+" => Strand::Forward,
        _ => Strand::Reverse,
    };
    (
        gene.to_owned(),
        strand,
        start.parse().unwrap(),
        end.parse().unwrap(),
    )
}

fn gene_of<'a>(genes: &'a [(String, Vec<u8>)], label: &str) -> (&'a str, &'a [u8]) {
    let gene = &genes[usize::from(label != "ABC1")];
    (&gene.0, &gene.1)
}

#[test]
fn without_errors_a_read_is_its_piece_of_the_gene() {
    let (genes, sites) = genes();
    let mut strands = [0, 0];
    for read in reads(0.0, 60) {
        let (label, strand, start, end) = origin(&read.name);
        let (id, gene) = gene_of(&genes, &label);
        let mut piece = gene[start..end].to_vec();
        if strand == Strand::Reverse {
            nucleotide::reverse_complement(&gene[start..end], &mut piece);
        }
        assert_eq!(read.codes, piece);
        assert!(read.qualities.iter().all(|&q| q == 50));

        // Every site of the piece is there, by a rule that looks at each base of the gene.
        let mut expected = Vec::new();
        for site in sites.get(id).unwrap().1 {
            let position = site.position as usize;
            if (start..end).contains(&position) {
                let place = match strand {
                    Strand::Forward => position - start,
                    Strand::Reverse => end - 1 - position,
                };
                let in_read = match strand {
                    Strand::Forward => read.codes[place],
                    Strand::Reverse => nucleotide::complement(read.codes[place]),
                };
                assert_eq!(in_read, gene[position]);
                expected.push((place as u64, strand, site.kind));
            }
        }
        expected.sort_unstable();
        let truth: Vec<_> = read
            .truth
            .iter()
            .map(|s| (s.position, s.strand, s.kind))
            .collect();
        assert_eq!(truth, expected);
        strands[usize::from(strand == Strand::Reverse)] += 1;
    }
    assert!(strands[0] > 15 && strands[1] > 15, "{strands:?}");
}

/// For each base of `a` its partner in `b` in a best global alignment (edit distance), none for a
/// deleted one.
fn align(a: &[u8], b: &[u8]) -> (usize, Vec<Option<usize>>) {
    let width = b.len() + 1;
    let mut cost = vec![0u32; (a.len() + 1) * width];
    for (j, cost) in cost[..width].iter_mut().enumerate() {
        *cost = j as u32;
    }
    for i in 1..=a.len() {
        cost[i * width] = i as u32;
        for j in 1..width {
            let same = u32::from(a[i - 1] != b[j - 1]);
            cost[i * width + j] = (cost[(i - 1) * width + j - 1] + same)
                .min(cost[(i - 1) * width + j] + 1)
                .min(cost[i * width + j - 1] + 1);
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut partners = vec![None; a.len()];
    while i > 0 && j > 0 {
        let here = cost[i * width + j];
        if here == cost[(i - 1) * width + j - 1] + u32::from(a[i - 1] != b[j - 1]) {
            i -= 1;
            j -= 1;
            partners[i] = Some(j);
        } else if here == cost[(i - 1) * width + j] + 1 {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    (cost[a.len() * width + b.len()] as usize, partners)
}

#[test]
fn with_errors_the_sites_move_with_the_bases() {
    let (genes, sites) = genes();
    let (mut near, mut all, mut edits, mut bases) = (0, 0, 0, 0);
    let short = reads(0.06, 300)
        .into_iter()
        .filter(|read| read.codes.len() < 2500);
    for read in short.take(12) {
        let (label, strand, start, end) = origin(&read.name);
        let (id, gene) = gene_of(&genes, &label);
        let mut piece = gene[start..end].to_vec();
        if strand == Strand::Reverse {
            nucleotide::reverse_complement(&gene[start..end], &mut piece);
        }
        let (distance, partners) = align(&piece, &read.codes);
        edits += distance;
        bases += piece.len();
        let mut here = 0;
        for site in sites.get(id).unwrap().1 {
            let position = site.position as usize;
            if !(start..end).contains(&position) {
                continue;
            }
            here += 1;
            let place = match strand {
                Strand::Forward => position - start,
                Strand::Reverse => end - 1 - position,
            };
            let Some(partner) = partners[place] else {
                continue;
            };
            all += 1;
            // The best alignment may put an indel beside the place where it happened, no further
            // off.
            near += usize::from(read.truth.iter().any(|truth| {
                truth.kind == site.kind
                    && truth.strand == strand
                    && truth.position.abs_diff(partner as u64) <= 2
            }));
        }
        assert!(read.truth.len() <= here && here <= read.truth.len() + 5);
    }
    assert!(all > 50 && near * 100 >= all * 95, "{near} of {all}");
    let rate = edits as f64 / bases as f64;
    assert!((0.045..0.065).contains(&rate), "{rate}");
}

#[test]
fn the_places_tell_how_each_base_fared() {
    for read in reads(0.1, 20) {
        let mut next = 0;
        let mut changed = 0;
        for (&base, &place) in read.template.iter().zip(&read.places) {
            if place == DELETED {
                changed += 1;
                continue;
            }
            // At most one base is inserted before a base.
            assert!(place == next || place == next + 1);
            changed += usize::from(place != next) + usize::from(read.codes[place as usize] != base);
            next = place + 1;
        }
        assert_eq!(next as usize, read.codes.len());
        assert_eq!(read.qualities.len(), read.codes.len());
        if read.template.len() > 3000 {
            let rate = changed as f64 / read.template.len() as f64;
            assert!((0.07..0.13).contains(&rate), "{rate}");
        }
    }
}

#[test]
fn errors_and_qualities_agree_with_the_rate() {
    for error_rate in [0.01, 0.05, 0.15] {
        let (mut bases, mut deleted, mut substituted, mut stated) = (0.0, 0.0, 0.0, 0.0);
        let (mut inserted, mut read_bases) = (0.0, 0.0);
        for read in reads(error_rate, 60) {
            bases += read.template.len() as f64;
            let gone = read.places.iter().filter(|&&p| p == DELETED).count();
            deleted += gone as f64;
            inserted += (read.codes.len() + gone - read.template.len()) as f64;
            substituted += read
                .template
                .iter()
                .zip(&read.places)
                .filter(|&(&t, &p)| p != DELETED && read.codes[p as usize] != t)
                .count() as f64;
            read_bases += read.codes.len() as f64;
            stated += read
                .qualities
                .iter()
                .map(|&q| 10f64.powf(-f64::from(q) / 10.0))
                .sum::<f64>();
        }
        let close = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 0.1;
        assert!(close(substituted / bases, 0.4 * error_rate));
        assert!(close(inserted / bases, 0.2 * error_rate));
        assert!(close(deleted / bases, 0.4 * error_rate));
        assert!(
            close(stated / read_bases, error_rate),
            "{}",
            stated / read_bases
        );
    }
}

#[test]
fn deletions_prefer_homopolymers() {
    let codes: Vec<u8> = (0..40_000)
        .map(|i| if i % 12 < 6 { 0 } else { 1 + (i % 3) as u8 })
        .collect();
    let config = SimulationConfig {
        reads: 1,
        error_rate: 0.05,
        errors: Errors::Uniform,
        seed: 1,
    };
    let genes = [("g".to_owned(), codes)];
    let simulator = Simulator::new(genes, &GeneSites::default(), config).unwrap();
    let (mut in_runs, mut elsewhere) = (0, 0);
    let mut read = SimulatedRead::default();
    for index in 0..40 {
        simulator.read(index, &mut read);
        for (&base, &place) in read.template.iter().zip(&read.places) {
            match (place == DELETED, base == 0 || base == 3) {
                (true, true) => in_runs += 1,
                (true, false) => elsewhere += 1,
                _ => {}
            }
        }
    }
    assert!(in_runs > 3 * elsewhere, "{in_runs} {elsewhere}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let simulator = simulator(0.05);
    let write = || {
        let (mut reads, mut truth) = (Vec::new(), Vec::new());
        let summary = simulator.write(&mut reads, &mut truth).unwrap();
        (reads, truth, summary)
    };
    let (reads, truth, summary) = write();
    assert_eq!((reads.clone(), truth.clone(), summary), write());
    assert_eq!(summary.reads, 60);
    assert_eq!(
        truth.iter().filter(|&&b| b == b'\n').count() as u64,
        summary.sites + 1
    );
    // Pins the bytes of this version, for every platform.
    let digest = blake3::hash(&[reads, truth].concat()).to_hex();
    assert_eq!(&digest[..16], "ce4e437f5be722e1");
}

#[test]
fn lengths_are_log_normal() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut lengths: Vec<u64> = (0..20_001).map(|_| length(&mut rng)).collect();
    lengths.sort_unstable();
    let median = lengths[10_000];
    assert!((4800..5200).contains(&median), "{median}");
    // One standard deviation above and below: 5000 e^0.8 and 5000 e^-0.8.
    let (low, high) = (lengths[3173], lengths[16_827]);
    assert!((2130..2370).contains(&low), "{low}");
    assert!((10_600..11_700).contains(&high), "{high}");
    for x in [-6.5, -1.0, -0.3, 0.0, 0.7, 3.2] {
        assert!((exp2(x) / f64::exp2(x) - 1.0).abs() < 1e-6);
    }
    for read in reads(0.0, 300) {
        let length = read.codes.len();
        assert!((200..=30_000).contains(&length));
    }
}

#[test]
fn names_and_records_are_as_documented() {
    let mut read = SimulatedRead::default();
    simulator(0.0).read(5, &mut read);
    assert!(read.name.starts_with("sim000005_"));
    read.codes = vec![0, 1, 2, 3, 4];
    read.qualities = vec![0, 2, 10, 40, 50];
    read.name = "n".into();
    read.truth = vec![ReadSite {
        position: 3,
        strand: Strand::Reverse,
        kind: CallKind::Donor,
    }];
    let mut out = Vec::new();
    read.write_fastq(&mut out).unwrap();
    read.write_truth(&mut out).unwrap();
    assert_eq!(out, b"@n\nACGTN\n+\n!#+IS\nn\t3\t-\tdonor\n");
}

#[test]
fn bad_configurations_are_refused() {
    let (genes, sites) = genes();
    let config = SimulationConfig {
        reads: 1,
        error_rate: 0.5,
        errors: Errors::Uniform,
        seed: 0,
    };
    let new = |genes, config| {
        Simulator::new(genes, &sites, config)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        new(genes.clone(), config),
        "an error rate of 0.5: expected 0 to 0.3"
    );
    let config = SimulationConfig {
        error_rate: 0.0,
        errors: Errors::Uniform,
        ..config
    };
    assert_eq!(
        new(vec![("e".into(), Vec::new())], config),
        "no gene has a base"
    );
    assert_eq!(
        new(vec![("g1".into(), vec![0; 100])], config),
        "gene g1 has 100 bases but a site (donor) at position 108"
    );
    let tiny = vec![("t".to_owned(), vec![1; 30])];
    let mut read = SimulatedRead::default();
    Simulator::new(tiny, &sites, config)
        .unwrap()
        .read(0, &mut read);
    assert_eq!(
        read.codes,
        [1; 30].map(|c| if read.name.contains("_+_") { c } else { 3 - c })
    );
}
