//! One worker's state of a model.

use super::cell_input::CellInput;
use super::error::ModelError;
use super::file::ModelFile;
use super::genes;
use super::graph::Model;
use super::manifest::Tokeniser;
use super::ops::context::{Context, Sequences};
use super::second::{SecondLook, SecondState};
use super::turn::{State, execute};
use crate::kernels::NO_BASE;
use std::ops::Range;
use tract_core::internal::*;

impl Model {
    /// A mutable state to run it with, for one worker.
    pub fn spawn(&self) -> Result<Runner, ModelError> {
        let failed = |error: TractError| self.error("spawning a worker", &error);
        let tile = self.manifest().tile;
        let (context, multiple) = (self.manifest().context, self.manifest().multiple);
        // Whether a position is looked at may be up to a neighbour, which needs its own context.
        let around = self.second.as_ref().map_or(0, |second| second.around);
        let room = if self.exact_length { 0 } else { tile };
        let tokeniser = self.manifest().tokeniser;
        let input = match tokeniser {
            Tokeniser::OneHot => Tensor::zero::<u8>(&[room]),
            _ => Tensor::zero::<u32>(&[room]),
        };
        Ok(Runner {
            context: Context::default(),
            state: self.plan.spawn().map_err(failed)?,
            second: match &self.second {
                Some(second) => Some(SecondState {
                    state: second.plan.spawn().map_err(failed)?,
                    stage: second.clone(),
                    ranges: Vec::new(),
                    looked: SecondLook::default(),
                }),
                None => None,
            },
            input: Arc::new(input.map_err(failed)?),
            cell: match tokeniser {
                Tokeniser::Genes => Some(CellInput::new(self.plan.model(), room).map_err(failed)?),
                _ => None,
            },
            tokeniser,
            multiple,
            shortest: self.manifest().shortest,
            length: Arc::new(tensor0(0i64)),
            output: None,
            joined: Vec::new(),
            wanted: None,
            tile,
            columns: self.manifest().outputs.len(),
            rows: !self.pooled,
            side_by_side: self.pooled && self.keeps_apart && tokeniser != Tokeniser::Genes,
            exact_length: self.exact_length,
            margins: (
                (context.left + around).next_multiple_of(multiple),
                (context.right + around).next_multiple_of(multiple),
            ),
            padding: self.manifest().padding(),
            no_base: u8::try_from(self.manifest().alphabet.len()).unwrap_or(u8::MAX),
            padded: Vec::new(),
            whole: Vec::new(),
            file: self.file.clone(),
        })
    }
}

/// One worker's state: activations and working memory, reused from run to run.
#[derive(Debug)]
pub struct Runner {
    /// Lent to the layers of both stages. It holds nothing before a run.
    context: Context,
    state: State,
    second: Option<SecondState>,
    input: Arc<Tensor>,
    /// For a network that reads cells.
    cell: Option<CellInput>,
    tokeniser: Tokeniser,
    multiple: usize,
    /// Tokens of the shortest sequence.
    shortest: usize,
    length: Arc<Tensor>,
    output: Option<TValue>,
    /// Rows put together from several outputs.
    joined: Vec<f32>,
    /// What the next run is for, where that is not every row.
    wanted: Option<Range<usize>>,
    tile: usize,
    columns: usize,
    rows: bool,
    /// True where several sequences of one length can share a run.
    side_by_side: bool,
    exact_length: bool,
    /// Context to the left and right, in whole multiples.
    margins: (usize, usize),
    /// Positions before and behind a sequence that are filled with N, its code, and a tile with it.
    padding: [usize; 2],
    no_base: u8,
    padded: Vec<u8>,
    /// The output of more than one tile.
    whole: Vec<f32>,
    file: Arc<ModelFile>,
}

impl Runner {
    /// Runs the model on `codes`, each of which stands for a letter of the manifest's alphabet or,
    /// from its length on, for none, and gives its raw output: `[codes.len(), columns]`, or
    /// `[columns]` for a sequence scored as a whole. The ends of `codes` are ends of the sequence;
    /// what lies beyond them is up to the manifest's `ends`.
    /// More codes than the tile holds are run in tiles that overlap by the context, which changes
    /// nothing.
    ///
    /// # Errors
    /// Where tract fails, the model reads ids, there are no multiple of the codes that the manifest
    /// asks for, or more than the tile where the output is no rows.
    pub fn run(&mut self, codes: &[u8]) -> Result<&[f32], ModelError> {
        self.run_part(codes, [true, true])
    }

    /// The same of a part of a sequence: whether its beginning and its end are those of the
    /// sequence. Where they are not, rows within the context of them mean nothing.
    pub(crate) fn run_part(&mut self, codes: &[u8], ends: [bool; 2]) -> Result<&[f32], ModelError> {
        let padding = self.padding_of(ends);
        if padding == [0, 0] && (codes.len() <= self.tile || !self.rows) {
            return self.evaluate(codes);
        }
        let mut whole = std::mem::take(&mut self.whole);
        whole.resize(codes.len() * self.columns, 0.0);
        let result = self.run_padded(codes, 0..codes.len(), padding, &mut whole);
        self.whole = whole;
        result?;
        Ok(&self.whole)
    }

    /// The same where some rows are wanted only: of a network with two stages the second computes
    /// just what these need, and other rows mean nothing.
    pub(crate) fn run_wanted(
        &mut self,
        codes: &[u8],
        ends: [bool; 2],
        wanted: Range<usize>,
    ) -> Result<&[f32], ModelError> {
        let in_one = self.padding_of(ends) == [0, 0] && codes.len() <= self.tile;
        self.wanted = in_one.then_some(wanted);
        self.run_part(codes, ends)
    }

    fn padding_of(&self, ends: [bool; 2]) -> [usize; 2] {
        let [before, behind] = self.padding;
        [
            if ends[0] { before } else { 0 },
            if ends[1] { behind } else { 0 },
        ]
    }

    /// Runs the model on those tiles of `codes` that make up `range`, into `out` of `[range.len(),
    /// columns]`: what a thread does of a sequence that several share. The range begins at a
    /// multiple of what the manifest asks for.
    ///
    /// # Errors
    /// As [`Runner::run`], and where the tile does not hold the context.
    pub fn run_range(
        &mut self,
        codes: &[u8],
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        self.run_padded(codes, range, self.padding, out)
    }

    fn run_padded(
        &mut self,
        codes: &[u8],
        range: Range<usize>,
        [before, behind]: [usize; 2],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let (left, right) = self.margins;
        let step = self.tile.saturating_sub(left + right) / self.multiple * self.multiple;
        if step == 0 || !self.rows || !range.start.is_multiple_of(self.multiple) {
            let reason = format!("a tile of {} for a context of {left} + {right}", self.tile);
            return Err(graph_error(&self.file, reason));
        }
        let columns = self.columns;
        let mut from = range.start;
        while from < range.end {
            let to = (from + step).min(range.end);
            let first = from.saturating_sub(left);
            let last = (to + right).min(codes.len());
            let own = &codes[first..last];
            // As much of the context as there are no codes for.
            let [n_before, n_behind] = [
                before.min(left.saturating_sub(from)),
                behind.min((to + right).saturating_sub(codes.len())),
            ];
            let mut padded = std::mem::take(&mut self.padded);
            let window = if n_before + n_behind == 0 {
                own
            } else {
                padded.clear();
                padded.resize(n_before, self.no_base);
                padded.extend_from_slice(own);
                padded.resize(padded.len() + n_behind, self.no_base);
                &padded
            };
            let rows = self.evaluate(window)?;
            let first_row = from - first + n_before;
            let rows = &rows[first_row * columns..(first_row + to - from) * columns];
            out[(from - range.start) * columns..(to - range.start) * columns].copy_from_slice(rows);
            self.padded = padded;
            from = to;
        }
        Ok(())
    }

    /// The same for a model that reads token ids, on at most a tile of them.
    ///
    /// # Errors
    /// As [`Runner::run`], and for an id outside the vocabulary.
    pub fn run_ids(&mut self, ids: &[u32]) -> Result<&[f32], ModelError> {
        if self.cell.is_some() {
            let reason = "a model that reads genes with values, not ids alone".to_string();
            return Err(graph_error(&self.file, reason));
        }
        self.evaluate(ids)
    }

    /// Runs a model that reads cells: of each token, at most a tile of them, the id of its gene,
    /// its value, and its flag (no flags: all 0). Gives `[columns]`, or `[tokens, columns]`.
    ///
    /// # Errors
    /// As [`Runner::run_ids`], and for a value that is not finite, lists of different lengths, or a
    /// model that reads something else.
    pub fn run_genes(
        &mut self,
        ids: &[u32],
        values: &[f32],
        flags: &[u32],
    ) -> Result<&[f32], ModelError> {
        let fault = |reason: String| Err(graph_error(&self.file, reason));
        if values.len() != ids.len() || !(flags.is_empty() || flags.len() == ids.len()) {
            let [ids, values, flags] = [ids.len(), values.len(), flags.len()];
            return fault(format!("{ids} genes, {values} values, {flags} flags"));
        }
        if ids.is_empty() || ids.len() > self.tile {
            let (count, tile) = (ids.len(), self.tile);
            return fault(format!("{count} genes, at least 1 and at most {tile}"));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return fault(format!("token {at} has a value of {}", values[at]));
        }
        match &mut self.cell {
            None => return fault("a model that reads no genes".to_string()),
            Some(cell) => {
                if let Err(error) = cell.fill(values, flags) {
                    return fault(format!("{error:#}"));
                }
            }
        }
        self.evaluate(ids)
    }

    /// Runs a model on a sample as the compiler has it: base codes, ids, or the words of a cell
    /// ([`genes::join`]).
    ///
    /// # Errors
    /// As [`Runner::run`] and its kin.
    pub fn run_sample(&mut self, words: &[u32]) -> Result<&[f32], ModelError> {
        match self.tokeniser {
            Tokeniser::OneHot => {
                let codes = words.iter().map(|&code| u8::try_from(code));
                let codes: Vec<u8> = codes.map(|code| code.unwrap_or(NO_BASE)).collect();
                self.run(&codes)
            }
            Tokeniser::Genes => {
                let (ids, values, flags) = genes::split(words);
                self.run_genes(&ids, &values, &flags)
            }
            _ => self.run_ids(words),
        }
    }

    /// The same for several sequences of `tokens` ids each, one behind the other; at most
    /// [`Runner::at_once`] of them. Gives the outputs of each, `[sequences, columns]`: those that
    /// they have alone.
    ///
    /// # Errors
    /// As [`Runner::run_ids`], and where there are more, or ids are left over.
    pub fn run_sequences(&mut self, ids: &[u32], tokens: usize) -> Result<&[f32], ModelError> {
        let (room, count) = (self.at_once(tokens), ids.len() / tokens.max(1));
        if count == 0 || count > room || count * tokens != ids.len() {
            let reason = format!("{} ids, {tokens} a sequence, {room} at once", ids.len());
            return Err(graph_error(&self.file, reason));
        }
        self.context.sequences = Sequences { count, room };
        let result = self.evaluate(ids).map(|_| ());
        self.context.sequences = Sequences::default();
        result?;
        let outputs = self
            .floats()
            .and_then(|all| all.get(..count * self.columns));
        Ok(outputs.unwrap_or_default())
    }

    /// How many sequences of so many tokens can share a run: as many as a tile holds, where every
    /// layer keeps them apart. Their weights are read once then.
    pub fn at_once(&self, tokens: usize) -> usize {
        match tokens {
            1.. if self.side_by_side => (self.tile / tokens).max(1),
            _ => 1,
        }
    }

    fn evaluate<T: Datum + Copy>(&mut self, input: &[T]) -> Result<&[f32], ModelError> {
        self.output = None;
        let wanted = self.wanted.take();
        let rows = if self.rows {
            input.len()
        } else {
            self.context.sequences.count
        };
        let count = rows * self.columns;
        if let Err(error) = self.run_graph(input, wanted) {
            return Err(graph_error(&self.file, format!("{error:#}")));
        }
        self.floats()
            .and_then(|floats| floats.get(..count))
            .ok_or_else(|| graph_error(&self.file, "an output that is too short".into()))
    }

    /// The output of the last run, and room behind it.
    fn floats(&self) -> Option<&[f32]> {
        match &self.output {
            None => Some(&*self.joined),
            Some(output) => {
                let ram = output.try_as_plain_ram();
                ram.and_then(|ram| ram.as_slice::<f32>()).ok()
            }
        }
    }

    /// Runs the graph: its rows are `output` then, or `joined`.
    fn run_graph<T: Datum + Copy>(
        &mut self,
        values: &[T],
        wanted: Option<Range<usize>>,
    ) -> TractResult<()> {
        let (count, tile) = (values.len(), self.tile);
        ensure!(count <= tile, "{count} positions in a tile of {tile}");
        ensure!(
            self.shortest == 1 || count >= self.shortest,
            "{count} tokens, of which the network needs {}",
            self.shortest
        );
        ensure!(
            count.is_multiple_of(self.multiple),
            "{count} positions are no multiple of {}",
            self.multiple
        );
        let (expected, read) = match self.tokeniser {
            Tokeniser::OneHot => (u8::datum_type(), "codes"),
            _ => (u32::datum_type(), "ids"),
        };
        ensure!(T::datum_type() == expected, "a model that reads {read}");
        if self.exact_length {
            self.input = Arc::new(tensor1(values));
        } else {
            let tensor = Arc::get_mut(&mut self.input).context("the input is still in use")?;
            let mut view = tensor.try_as_plain_ram_mut()?;
            view.as_slice_mut::<T>()?[..count].copy_from_slice(values);
        }
        let length = Arc::get_mut(&mut self.length).context("the length is still in use")?;
        length.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?[0] = count as i64;
        // The first stage gives every row.
        self.context.wanted = None;
        let sources = self.sources();
        let mut outputs = execute(&mut self.state, &mut self.context, sources)?;
        if self.second.is_some() || outputs.len() > 1 {
            return self.join(count, wanted, outputs);
        }
        self.output = Some(outputs.pop().context("no output")?);
        Ok(())
    }

    fn sources(&self) -> TVec<TValue> {
        let mut sources = tvec!(
            TValue::from_const(self.input.clone()),
            TValue::from_const(self.length.clone())
        );
        sources.extend(self.cell.iter().flat_map(CellInput::sources));
        sources
    }

    /// Puts the rows of several outputs side by side, or takes the second look.
    fn join(
        &mut self,
        positions: usize,
        wanted: Option<Range<usize>>,
        mut outputs: TVec<TValue>,
    ) -> TractResult<()> {
        self.joined.clear();
        let Some(mut second) = self.second.take() else {
            self.joined.resize(positions * self.columns, 0.0);
            let mut first = 0;
            for output in &outputs {
                let width = output.shape().last().copied().unwrap_or(0);
                let values = output.try_as_plain_ram()?.as_slice::<f32>()?;
                let rows = self.joined.chunks_exact_mut(self.columns);
                for (row, values) in rows.zip(values.chunks_exact(width)) {
                    row[first..first + width].copy_from_slice(values);
                }
                first += width;
            }
            return Ok(());
        };
        let first = outputs.remove(0);
        let inputs = self.sources().into_iter().chain(outputs).collect();
        let rows = (positions, self.columns, &mut self.joined);
        let wanted = wanted.unwrap_or(0..positions);
        let result = second.look(&mut self.context, &first, inputs, wanted, rows);
        self.second = Some(second);
        result
    }

    /// Runs something on this runner with another context than its own: runners that take turns
    /// share buffers so.
    pub(crate) fn with_context<R>(
        &mut self,
        context: &mut Context,
        run: impl FnOnce(&mut Runner) -> R,
    ) -> R {
        std::mem::swap(&mut self.context, context);
        let result = run(self);
        std::mem::swap(&mut self.context, context);
        result
    }

    /// How often it took the second look since this was last asked for.
    pub fn take_second_look(&mut self) -> SecondLook {
        let second = self.second.as_mut();
        second.map_or(SecondLook::default(), |second| {
            std::mem::take(&mut second.looked)
        })
    }

    /// True where a sequence longer than a tile can be run: there are rows, and more of them in a
    /// tile than its context takes.
    pub fn takes_tiles(&self) -> bool {
        self.rows && self.tile >= self.margins.0 + self.margins.1 + self.multiple
    }

    /// True where it reads token ids, not codes.
    pub fn reads_ids(&self) -> bool {
        self.tokeniser.reads_ids()
    }

    /// Positions it takes at once.
    pub fn tile(&self) -> usize {
        self.tile
    }
}

fn graph_error(file: &ModelFile, reason: String) -> ModelError {
    ModelError::Graph {
        file: file.name().to_string(),
        action: "running the graph",
        reason,
    }
}

#[cfg(all(test, feature = "pack"))]
mod tests {
    use super::*;
    use crate::annotate::Task;
    use crate::annotate::builtin;
    use crate::compile::check::Check;
    use crate::compile::pack::{Packed, pack};
    use crate::model::manifest::{Manifest, Precision, Tier};
    use std::path::Path;

    /// A network of the test data, as raw numbers.
    fn packed(name: &str, multiple: usize, columns: usize) -> Packed {
        let ids = multiple == 1;
        let file = builtin::file(Task::Splice).unwrap();
        let mut manifest: Manifest = file.manifest().of_tier(Tier::Fast);
        let mut output = manifest.outputs.swap_remove(0);
        output.kind = None;
        output.short_context.clear();
        manifest.outputs = vec![output; columns];
        (manifest.task, manifest.whole) = (Task::Raw.to_string(), None);
        (manifest.tokeniser, manifest.tile) = if ids {
            (Tokeniser::Ids, 32)
        } else {
            (Tokeniser::OneHot, 256)
        };
        manifest.multiple = multiple;
        manifest.precision = Precision::Int8;
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/onnx/{name}.onnx"));
        pack(
            &path,
            &manifest,
            &[(0..32).map(|t| t % 4).collect()],
            Check::Precision,
        )
        .unwrap()
    }

    #[test]
    fn a_run_that_fails_leaves_the_next_one_alone() {
        let model = packed("bert_script", 1, 2).model;
        let ids: Vec<u32> = (0..16).map(|t| t % 4).collect();
        let expected = model.spawn().unwrap().run_ids(&ids).unwrap().to_vec();
        let mut runner = model.spawn().unwrap();
        for _ in 0..2 {
            let error = runner.run_ids(&[u32::MAX; 16]).unwrap_err();
            assert!(!error.to_string().contains("in use"), "{error}");
            assert_eq!(runner.run_ids(&ids).unwrap(), expected);
        }
    }

    fn measured(model: &Model) -> (usize, usize) {
        let mut runner = model.spawn().unwrap();
        let tile = runner.tile();
        for length in [tile, tile, tile / 4 * 2] {
            if runner.reads_ids() {
                runner.run_ids(&vec![1; length]).unwrap();
            } else {
                runner.run(&vec![1; length]).unwrap();
            }
        }
        let context = &runner.context;
        (context.activation_bytes(), context.scratch_bytes())
    }

    #[test]
    fn what_is_reported_is_what_is_held() {
        for task in [Task::Splice, Task::Promoter] {
            // Not auto: its second stage holds nothing before a position needs it.
            let model = builtin::model(task, Tier::Accurate).unwrap();
            let reported = (model.activation_bytes().unwrap(), model.scratch_bytes());
            let held = measured(&model);
            assert_eq!(held.1, reported.1, "{task}");
            // What the second stage of a network reads of the first is given back when it is read
            // for the last time.
            if model.computes_all() && model.manifest().name.ends_with("accurate") {
                assert!(
                    held.0 <= reported.0 && held.0 * 5 > reported.0 * 4,
                    "{task}"
                );
            } else {
                assert_eq!(held.0, reported.0, "{task}");
            }
        }
        for (name, multiple, columns) in [("bert_script", 1, 2), ("branches_script", 4, 3)] {
            let packed = packed(name, multiple, columns);
            assert_eq!(packed.plain, [""; 0]);
            let model = &packed.model;
            let reported = (model.activation_bytes().unwrap(), model.scratch_bytes());
            assert_eq!(measured(model), reported, "{name}");
        }
    }
}
