use super::*;
use crate::laws::samples::{small_mixers, task_spec};
use crate::model::{Inputs, Model};
use crate::train::feed::to_tensors;
use crate::train::sections::Section;
use tasks::{Output, Targets};
use tch::no_grad;

fn config(objective: Objective, rate: f64) -> PretrainConfig {
    let given = PretrainConfig { objective, mask_rate: Some(rate), steps: 10, ..Default::default() };
    given.resolved(Input::Tokens, &OptimizerConfig::default(), &ScheduleConfig::default(), 100).expect("an objective")
}

/// Rows of these lengths; the token at a position tells row and place, padding is -1.
fn batch(lengths: &[i64]) -> Batch {
    let length = *lengths.iter().max().expect("a row") as usize;
    let row = |(row, &n): (usize, &i64)| {
        let filled = (0..n).map(move |t| (row * length) as i64 + t);
        filled.chain(std::iter::repeat_n(-1, length - n as usize)).collect::<Vec<_>>()
    };
    Batch {
        width: 1,
        size: lengths.len(),
        documents: 1,
        length,
        tokens: lengths.iter().enumerate().flat_map(row).collect(),
        types: Vec::new(),
        lengths: lengths.to_vec(),
        targets: Targets::PerSequence(vec![0; lengths.len()]),
    }
}

/// Batches of one to six rows of one to forty positions.
fn batches() -> impl Iterator<Item = Batch> {
    (0..100).map(|index| {
        let mut stream = Stream::new(5, rng::Purpose::GUESS, index);
        let lengths: Vec<i64> = (0..=stream.below(6)).map(|_| 1 + stream.below(40) as i64).collect();
        batch(&lengths)
    })
}

#[test]
fn mlm_hides_the_exact_share_of_every_row_and_never_padding() {
    for (step, batch) in batches().enumerate() {
        for rate in [0.01, 0.15, 0.5, 0.99] {
            let config = config(Objective::Mlm, rate);
            let question = Question::new(&config, &batch, 3, step as u64);
            assert_eq!(question, Question::new(&config, &batch, 3, step as u64));
            assert_eq!(question.at, question.classes, "a sample token is its own place");
            assert!(question.at.windows(2).all(|pair| pair[0] < pair[1]));
            for (row, n) in batch.lengths.iter().enumerate() {
                let start = (row * batch.length) as i64;
                let here = question.at.iter().filter(|at| (start..start + n).contains(*at)).count() as i64;
                assert_eq!(here, ((rate * *n as f64).round() as i64).max(1), "{rate} of {n}");
            }
            assert_eq!(question.at.len() as i64, batch.lengths.iter().map(|&n| config.predicted(n)).sum::<i64>());
        }
    }
}

#[test]
fn clm_tells_every_token_but_each_row_s_first_from_the_one_before() {
    for batch in batches() {
        let question = Question::new(&config(Objective::Clm, 0.5), &batch, 3, 0);
        let rows = batch.lengths.iter().enumerate();
        let want = rows.flat_map(|(row, n)| (0..n - 1).map(move |t| (row, t)));
        let want: Vec<i64> = want.map(|(row, t)| (row * batch.length) as i64 + t).collect();
        assert_eq!(question.classes, want.iter().map(|at| at + 1).collect::<Vec<_>>());
        assert_eq!(question.at, want);
    }
}

#[test]
fn each_step_and_each_seed_hides_other_positions() {
    let (config, batch) = (config(Objective::Mlm, 0.5), batch(&[64, 64]));
    let at = |seed, step| Question::new(&config, &batch, seed, step).at;
    assert_eq!(at(0, 0)[..6], [1, 2, 5, 6, 7, 8], "drawn alike on every machine");
    assert!(at(0, 0) != at(0, 1) && at(0, 0) != at(1, 0));
}

#[test]
fn rates_that_are_not_given_follow_the_input_and_warm_up_the_schedule() {
    let mlm = PretrainConfig { objective: Objective::Mlm, ..Default::default() };
    let resolve = |p: &PretrainConfig, input, schedule: &ScheduleConfig| {
        p.resolved(input, &OptimizerConfig { lr: 0.3, ..Default::default() }, schedule, 1000).expect("an objective")
    };
    let cosine = ScheduleConfig { warmup_steps: 100, ..Default::default() };
    let tokens = resolve(&mlm, Input::Tokens, &cosine);
    assert_eq!((tokens.mask_rate, tokens.lr, tokens.warmup_steps), (Some(0.15), Some(0.3), Some(50)));
    assert_eq!(resolve(&mlm, Input::Reals { width: 1, scale: 1.0, shift: 0.0 }, &cosine).mask_rate, Some(0.5));
    assert_eq!(resolve(&tokens, Input::Tokens, &cosine), tokens, "resolving again changes nothing");
    let root = ScheduleConfig { shape: Shape::InverseSqrt, ..cosine };
    assert_eq!(resolve(&mlm, Input::Tokens, &root).warmup_steps, Some(100));
    assert_eq!(resolve(&PretrainConfig { steps: 60, ..mlm }, Input::Tokens, &root).warmup_steps, Some(60));
}

#[test]
fn every_mistake_of_the_section_names_its_key() {
    let wrong = PretrainConfig {
        objective: Objective::None,
        steps: 0,
        mask_rate: Some(1.0),
        lr: Some(0.0),
        warmup_steps: Some(1),
    };
    let keys: Vec<_> = wrong.check().iter().map(|m| m.key).collect();
    assert_eq!(keys, ["steps", "mask_rate", "lr", "warmup_steps"]);
    assert!(PretrainConfig::default().check().is_empty());
}

/// Models of two blocks around every mixer, for tokens or reals, with and without a cls vector.
fn models(check: impl Fn(&str, &nn::VarStore, &Model, &TaskSpec, &ModelConfig), causal: bool) {
    for (entry, settings) in small_mixers() {
        for (block, pooling) in [("transformer", "cls"), ("s4", "mean"), ("bigs", "last"), ("hydra", "cls")] {
            for input in [Input::Tokens, Input::Reals { width: 1, scale: 0.1, shift: -0.5 }] {
                let text = serde_json::json!({"block": block, "d_model": 16, "n_layers": 2, "pooling": pooling});
                let config: ModelConfig = serde_json::from_value(text).expect("a model");
                let task = TaskSpec { input, causal, ..task_spec(Output::PerSequence) };
                if !entry.check(&settings, &config.dims(task.max_length, causal)).is_empty() {
                    continue;
                }
                let vs = VarStore::new(Device::Cpu);
                let model = Model::new(&vs.root(), &config, &task, &entry, &settings);
                check(&format!("{} in {block} on {input:?}", entry.name), &vs, &model, &task, &config);
            }
        }
    }
}

/// Of the first step's batch, with its gradients.
fn loss(stage: &Stage, model: &Model, batch: &Batch) -> Tensor {
    let asked = stage.asked(batch, 0);
    let (inputs, classes) = to_tensors(&asked, Device::Cpu);
    let at = inputs.positions.as_ref().expect("positions");
    stage.loss_of(&model.features(&inputs, stage.hidden(at), at, true), &classes, asked.targets.classes().len())
}

fn inputs(tokens: &Tensor, lengths: Option<&[i64]>) -> Inputs {
    Inputs { tokens: tokens.shallow_clone(), types: None, lengths: lengths.map(Tensor::from_slice), positions: None }
}

fn tokens() -> Tensor {
    (Tensor::arange(24, (Kind::Int64, Device::Cpu)) * 7).remainder(11).view([2, 12])
}

#[test]
fn what_is_hidden_is_not_read_and_neither_is_padding() {
    let (at, vector) = (Tensor::from_slice(&[1_i64, 5, 12, 13, 18]), Tensor::ones([16], (Kind::Float, Device::Cpu)));
    let hidden = || Some(Hidden { at: &at, vector: &vector });
    let altered = |places: &[i64]| {
        let places = Tensor::from_slice(places);
        tokens().flatten(0, 1).index_fill(0, &places, 10).view([2, 12])
    };
    models(
        |name, _vs, model, _, _| {
            let features = |tokens: &Tensor, hidden: Option<Hidden>| {
                no_grad(|| model.features(&inputs(tokens, Some(&[9, 12])), hidden, &at, false))
            };
            let same = |a: &Tensor, b: &Tensor| a.allclose(b, 1e-4, 1e-5, false);
            let plain = features(&tokens(), hidden());
            assert!(same(&plain, &features(&altered(&[1, 5, 12, 13, 18]), hidden())), "{name} reads what is hidden");
            assert!(same(&plain, &features(&altered(&[9, 10, 11]), hidden())), "{name} reads padding");
            assert!(!same(&plain, &features(&altered(&[1, 5, 12, 13, 18]), None)), "{name}: hiding changes something");
        },
        false,
    );
}

#[test]
fn under_clm_no_position_is_predicted_from_itself_or_a_later_one() {
    let task = seen(task_spec(Output::PerSequence), Some(&config(Objective::Clm, 0.5)));
    assert!(task.causal && !seen(task_spec(Output::PerSequence), Some(&config(Objective::Mlm, 0.5))).causal);
    let at = Tensor::from_slice(&[0_i64, 2, 4]);
    let later = tokens().flatten(0, 1).index_fill(0, &Tensor::from_slice(&[5_i64, 8, 11]), 10).view([2, 12]);
    models(
        |name, _vs, model, _, _| {
            let features = |tokens: &Tensor| no_grad(|| model.features(&inputs(tokens, None), None, &at, false));
            assert!(features(&tokens()).allclose(&features(&later), 1e-4, 1e-5, false), "{name}");
        },
        true,
    );
}

#[test]
fn the_stage_trains_the_whole_model_but_its_head() {
    let batch = Batch { tokens: (0..24).map(|i| i * 7 % 11).collect(), ..batch(&[12, 9]) };
    for (objective, causal) in [(Objective::Mlm, false), (Objective::Clm, true)] {
        models(
            |name, vs, model, task, model_config| {
                let stage = Stage::new(&config(objective, 0.4), model_config, task, 1, Device::Cpu);
                loss(&stage, model, &batch).backward();
                let trained = stage.trained(vs);
                assert!(trained.iter().all(|(n, _)| !n.starts_with("head.")), "{name}");
                for (variable, tensor) in trained.iter().filter(|(_, v)| v.requires_grad()) {
                    assert!(tensor.grad().defined(), "{variable} of {name}");
                }
            },
            causal,
        );
    }
}

#[test]
fn a_batch_of_single_positions_gives_clm_a_loss_of_nothing() {
    let (entry, settings) = small_mixers().remove(0);
    let (model_config, task) =
        (ModelConfig { d_model: 16, ..Default::default() }, seen(task_spec(Output::PerSequence), None));
    let vs = VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &model_config, &task, &entry, &settings);
    let stage = Stage::new(&config(Objective::Clm, 0.5), &model_config, &task, 1, Device::Cpu);
    let single = Batch { tokens: vec![3, 4], ..batch(&[1, 1]) };
    assert_eq!(loss(&stage, &model, &single).double_value(&[]), 0.0);
}
