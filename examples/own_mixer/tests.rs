use super::Config;
use mixers::Entry;
use mixers::laws::{hold, testing::noise, verify};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use tch::{Kind, Tensor};

#[test]
fn it_obeys_every_law() {
    hold(&[Entry::of::<Config>()]);
}

/// A dump as a reference would write it, from the recurrence as it stands.
#[test]
fn a_dump_of_the_recurrence_is_met_and_a_wrong_one_is_not() {
    let [x, decay] = [noise(&[2, 9, 4], 1), noise(&[4], 2)].map(|t| t.set_requires_grad(true));
    let keep = decay.sigmoid();
    let mut y = vec![x.select(1, 0) * (1.0 - &keep)];
    for t in 1..9 {
        y.push(&keep * &y[t - 1] + x.select(1, t as i64) * (1.0 - &keep));
    }
    let y = Tensor::stack(&y, 1);
    let weights = noise(&[2, 9, 4], 3);
    (&y * &weights).sum(Kind::Double).backward();
    let gradients = [("grad_input.x", x.grad()), ("grad_param.decay", decay.grad())];
    let values = [("input.x", x), ("param.decay", decay), ("output.y", y), ("grad_output.y", weights)];
    let held: Vec<(&str, Vec<usize>, Vec<u8>)> = values.into_iter().chain(gradients).map(bytes).collect();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, off) in [("ema__met", 0), ("ema__wrong", 1)] {
        let mut held = held.clone();
        held[2].2[6] ^= off; // a digit of the first output
        let views = held
            .iter()
            .map(|(key, shape, bytes)| (*key, TensorView::new(Dtype::F64, shape.clone(), bytes).expect("a tensor")));
        let texts = [("dtype", "float64"), ("config", r#"{"batch": 2, "L": 9, "d_model": 4}"#)];
        let texts: HashMap<_, _> = texts.map(|(key, text)| (key.to_string(), text.to_string())).into();
        let path = folder.path().join(format!("{name}.safetensors"));
        std::fs::write(&path, safetensors::serialize(views, Some(texts)).expect("a dump")).expect("a file");
        let outcome = verify(&path, &[Entry::of::<Config>()]);
        assert_eq!(outcome.passed(), off == 0, "{:?}", outcome.verdict);
    }
}

fn bytes((key, tensor): (&'static str, Tensor)) -> (&'static str, Vec<usize>, Vec<u8>) {
    let tensor = tensor.detach().contiguous();
    let mut bytes = vec![0; tensor.numel() * 8];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    (key, tensor.size().iter().map(|&n| n as usize).collect(), bytes)
}
