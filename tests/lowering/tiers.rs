//! Networks of two outputs: each tier gives the bits of the whole network, the second look those of
//! the better tier.

use super::draft::{Draft, Shape};
use super::{cases, sequence, shape};
use proptest::prelude::*;
use strandline::compile::check::Check;
use strandline::compile::pack::pack;
use strandline::model::Model;
use strandline::model::file::ModelFile;
use strandline::model::manifest::{Manifest, Tier};
use strandline::model::map::Bytes;

fn manifest(fast: usize, context: usize, separation: usize, survive: f32) -> Manifest {
    let mut text = format!(
        "name = \"draft\"\nversion = \"1\"\ntask = \"splice\"\ndescription = \"\"\n\
         alphabet = \"ACGT\"\n\
         tokeniser = \"one-hot\"\nstride = 1\nlicence = \"\"\ntile = {}\n\
         context = {{ left = {context}, right = {context} }}\n\
         training = {{ data = \"\", split = \"\", recipe = \"\" }}\n\
         cascade = {{ columns = 2, survive = [{survive}, {survive}], \
         context = {{ left = {fast}, right = {fast} }} }}\n",
        2 * (context + separation) + 90,
    );
    for column in 0..5 {
        text += &format!(
            "[[outputs]]\nname = \"c{column}\"\nkind = \"donor\"\nmeaning = \"\"\n\
             link = \"logit\"\nseparation = {separation}\n"
        );
    }
    Manifest::from_toml(&text).unwrap()
}

/// Codes, the same for a seed.
fn codes(seed: u32, length: usize) -> Vec<u8> {
    let codes = sequence(seed, length, 5).into_iter();
    codes.map(|code| code as u8).collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn tiers_have_the_bits_of_the_whole_network(
        seed in 1u32..9999,
        trunk in shape(),
        tower in [shape(), shape(), shape()],
        wide in shape(),
        hidden in 1usize..7,
        separation in 0usize..5,
        rare in 0.0f32..1.0,
        lengths in [1usize..700, 1usize..60],
    ) {
        let (hidden, head) = (
            4 * hidden,
            Shape {
                width: 3,
                dilation: 1,
                before: 1,
            },
        );
        let mut d = Draft::bases(seed);
        let x = d.conv("x", 4, 8, trunk, 1, 1);
        let x = d.op("Relu", &[&x], &[]);
        let fast = d.conv(&x, 8, 2, head, 1, 1);
        // A tower on bases and trunk, and a wide layer that reads the trunk and is added: it
        // reaches far without making others wide.
        let y = d.conv("x", 4, hidden, tower[0], 1, 1);
        let y = d.op("Relu", &[&y], &[]);
        let z = d.conv(&x, 8, hidden, wide, 1, 1);
        let y = d.op("Add", &[&z, &y], &[]);
        let mut y = d.op("Relu", &[&y], &[]);
        for shape in &tower[1..] {
            let z = d.conv(&y, hidden, hidden, *shape, 1, 1);
            let z = d.op("Add", &[&z, &y], &[]);
            y = d.op("Relu", &[&z], &[]);
        }
        let accurate = d.conv(&y, hidden, 3, head, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("draft.onnx");
        std::fs::write(&path, d.finish_all(&[&fast, &accurate])).unwrap();
        let reach =
            tower.iter().map(Shape::reach).sum::<usize>() + trunk.reach() + wide.reach() + 4;
        let samples: Vec<Vec<u32>> = (0..8).map(|n| sequence(seed + n, 300, 5)).collect();
        let least = {
            let manifest = manifest(trunk.reach() + 2, reach, separation, 0.0);
            let packed = pack(&path, &manifest, &samples, Check::Precision).unwrap();
            let mut runner = packed.model.spawn().unwrap();
            let mut best: Vec<f32> = runner
                .run(&codes(seed, 200))
                .unwrap()
                .chunks(5)
                .map(|row| row[0].max(row[1]))
                .collect();
            best.sort_by(f32::total_cmp);
            best[((best.len() - 1) as f32 * rare) as usize]
        };
        let manifest = manifest(trunk.reach() + 2, reach, separation, least);
        let packed = pack(&path, &manifest, &samples, Check::Precision).unwrap();
        prop_assert!(packed.plain.is_empty(), "{:?}", packed.plain);
        let model = |tier| {
            let file = ModelFile::parse(Bytes::copy_of(&packed.bytes).unwrap(), "draft").unwrap();
            Model::build_tier(file, tier).unwrap()
        };
        let mut whole = packed.model.spawn().unwrap();
        let models = [Tier::Fast, Tier::Accurate, Tier::Auto].map(model);
        prop_assert_eq!(models[0].manifest().outputs.len(), 2);
        prop_assert_eq!(models[2].manifest().outputs.len(), 3);
        prop_assert!(models[0].manifest().macs() < models[1].manifest().macs());
        let [mut fast, mut accurate, mut auto] =
            models.each_ref().map(|model| model.spawn().unwrap());
        // A long read first: what it leaves in the buffers must not show in the next.
        for length in lengths {
            let codes = codes(seed ^ 77, length);
            let whole = whole.run(&codes).unwrap();
            let column = |from: usize, to: usize| -> Vec<f32> {
                whole
                    .chunks_exact(5)
                    .flat_map(|row| &row[from..to])
                    .copied()
                    .collect()
            };
            prop_assert_eq!(fast.run(&codes).unwrap(), column(0, 2));
            prop_assert_eq!(accurate.run(&codes).unwrap(), column(2, 5));
            let survives: Vec<bool> = whole
                .chunks_exact(5)
                .map(|row| row[0] >= least || row[1] >= least)
                .collect();
            let found = auto.run(&codes).unwrap();
            for (at, (row, all)) in found.chunks_exact(3).zip(whole.chunks_exact(5)).enumerate() {
                let near = at.saturating_sub(separation)..(at + separation + 1).min(length);
                if survives[near].contains(&true) {
                    prop_assert_eq!(row, &all[2..], "position {} of {}", at, length)
                } else {
                    prop_assert!(
                        row.iter().all(|x| *x == f32::NEG_INFINITY),
                        "position {}: {:?}",
                        at,
                        row
                    )
                }
            }
        }
        let looked = auto.take_second_look();
        prop_assert!(looked.looked <= looked.positions && looked.positions > 0);
        prop_assert_eq!(auto.take_second_look().positions, 0);
    }
}
