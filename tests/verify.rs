//! Commands that train nothing: verify, doctor, list, plan, help.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{FIVE, Folder, MIXERS};

/// Reference dumps, one of them of the Hydra layer in double precision.
fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixers/fixtures/goldens")
}

const HYDRA: &str = "hydra__L33_groups2_bias.f64.safetensors";

/// A copy of a dump in a folder of its own, after `change`.
fn changed(change: impl Fn(&mut Vec<u8>)) -> Folder {
    let mut bytes = fs::read(goldens().join(HYDRA)).expect("a dump");
    change(&mut bytes);
    let folder = Folder::new();
    folder.write(&format!("dumps/{HYDRA}"), bytes);
    folder
}

/// Where the bytes of a tensor lie in a safetensors file: eight bytes of header length, the header, the data.
fn place_of(bytes: &[u8], tensor: &str) -> usize {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    8 + length + header[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize
}

#[test]
fn the_mixers_agree_with_the_reference_dumps() {
    let folder = Folder::new();
    let ended = folder.run(&format!("verify {} --skip-unsupported", goldens().display())).expect(0);
    let files = fs::read_dir(goldens()).expect("dumps").flatten();
    let files = files.filter(|f| f.path().extension().is_some_and(|e| e == "safetensors")).count();
    assert!(ended.err.starts_with(&format!("{files} files: ")) && ended.err.contains(" 0 failed"), "{}", ended.err);
    for mixer in ["hydra", "s4", "bigs", "combiner"] {
        assert!(ended.out.lines().any(|l| l.starts_with(&format!("ok   {mixer}_"))), "{mixer}:\n{}", ended.out);
    }
    assert!(!ended.out.contains("FAIL"), "{}", ended.out);
}

#[test]
fn one_changed_number_fails_and_names_the_group_and_the_tensor() {
    for (tensor, group) in
        [("output.y", "output"), ("grad_param.conv1d.bias", "grad_param"), ("grad_input.u", "grad_input")]
    {
        let folder = changed(|bytes| {
            let at = place_of(bytes, tensor);
            let number = f64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            bytes[at..at + 8].copy_from_slice(&(number + 1e-3).to_le_bytes());
        });
        let ended = folder.run("verify dumps -q").expect(1);
        let [line] = ended.out.lines().collect::<Vec<_>>()[..] else { panic!("one group fails:\n{}", ended.out) };
        let name = tensor.split_once('.').expect("group.name").1;
        assert!(line.starts_with(&format!("FAIL {HYDRA}  {group} ")) && line.ends_with(name), "{line}");
        let json = folder.run("verify dumps --json").expect(1);
        let lines: Vec<Value> =
            json.out.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        assert_eq!(lines[0]["passed"], false);
        assert_eq!(lines[1]["summary"][0]["passed"], 0);
        let side = if group == "output" { "values" } else { "gradients" };
        assert_eq!(lines[1]["summary"][0][side]["key"], tensor);
    }
}

#[test]
fn a_family_this_build_does_not_have_fails_unless_it_may_be_skipped() {
    let folder = Folder::new();
    folder.write("dumps/hyena__L33.f64.safetensors", fs::read(goldens().join(HYDRA)).expect("a dump"));
    let ended = folder.run("verify dumps").expect(1);
    assert!(ended.out.starts_with("skip hyena__L33.f64.safetensors  unsupported: "), "{}", ended.out);
    assert!(ended.out.contains("family `hyena`"), "{}", ended.out);
    assert!(ended.err.contains("help: --skip-unsupported passes over") && ended.err.contains("hydra"), "{}", ended.err);
    folder.run("verify dumps --skip-unsupported").expect(0);
}

#[test]
fn a_file_that_is_no_dump_is_named() {
    let folder = changed(|bytes| bytes.truncate(bytes.len() / 2));
    folder.write("dumps/text.safetensors", "not a dump");
    let ended = folder.run("verify dumps").expect(1);
    assert_eq!(ended.out.lines().filter(|l| l.starts_with("FAIL ")).count(), 2, "{}", ended.out);
    folder.run("verify nowhere").expect(2);
    folder.write("empty/README", "");
    folder.run("verify empty").expect(2);
}

/// A tensor of a dump: type, shape, bytes.
type Held = (Dtype, Vec<usize>, Vec<u8>);

/// A dump taken apart.
#[derive(Clone)]
struct Parts {
    tensors: BTreeMap<String, Held>,
    texts: HashMap<String, String>,
}

impl Parts {
    fn of(name: &str) -> Self {
        let bytes = fs::read(goldens().join(name)).expect("a dump");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let file = SafeTensors::deserialize(&bytes).expect("a dump");
        let held = |view: TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self {
            tensors: file.tensors().into_iter().map(|(name, view)| (name, held(view))).collect(),
            texts: header.metadata().clone().expect("texts"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let view = |(dtype, shape, data): &Held| TensorView::new(*dtype, shape.clone(), data).map(|_| ());
        self.tensors.values().for_each(|held| view(held).expect("a tensor"));
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
        });
        safetensors::serialize(views, Some(self.texts.clone())).expect("serialises")
    }

    fn tensor(&mut self, key: &str) -> &mut Held {
        self.tensors.get_mut(key).unwrap_or_else(|| panic!("{key}: keys are fixed by the fixture"))
    }

    /// One entry of float64 `key` becomes `value`.
    fn poison(&mut self, key: &str, value: f64) {
        self.tensor(key).2[16..24].copy_from_slice(&value.to_le_bytes());
    }

    /// Zeros of another shape.
    fn reshape(&mut self, key: &str, shape: &[usize]) {
        *self.tensor(key) = (Dtype::F64, shape.to_vec(), vec![0; 8 * shape.iter().product::<usize>()]);
    }

    /// A key of the metadata's `config`.
    fn configure(&mut self, key: &str, value: impl Into<Value>) {
        let mut config: Value = serde_json::from_str(&self.texts["config"]).expect("a config");
        config[key] = value.into();
        self.texts.insert("config".into(), config.to_string());
    }
}

/// Every way to spoil the Hydra dump, and what the verdict must name.
fn spoilt() -> Vec<(&'static str, Parts, &'static str)> {
    let good = Parts::of(HYDRA);
    let after = |change: &dyn Fn(&mut Parts)| {
        let mut parts = good.clone();
        change(&mut parts);
        parts
    };
    let without = |key: &str| after(&|parts| assert!(parts.tensors.remove(key).is_some(), "{key}"));
    let with_config = |key: &str, value: Value| after(&|parts| parts.configure(key, value.clone()));
    vec![
        ("no input", without("input.u"), "`input.u` is missing"),
        ("no parameter", without("param.dt_bias"), "`param.dt_bias` is missing"),
        ("no output", without("output.y"), "every `output.*` is missing"),
        ("no cotangent", without("grad_output.y"), "every `grad_output.*` is missing"),
        ("no gradient of an input", without("grad_input.u"), "`grad_input.u` is missing"),
        ("no gradient of a parameter", without("grad_param.dt_bias"), "`grad_param.dt_bias` is missing"),
        ("no config", after(&|p| drop(p.texts.remove("config"))), "metadata `config` is missing"),
        (
            "a config that is no JSON",
            after(&|p| drop(p.texts.insert("config".into(), "{".into()))),
            "metadata `config`",
        ),
        ("no dtype", after(&|p| drop(p.texts.remove("dtype"))), "metadata `dtype` is missing"),
        (
            "another dtype",
            after(&|p| drop(p.texts.insert("dtype".into(), "float32".into()))),
            "metadata `dtype` says Float",
        ),
        ("a width that is missing", with_config("d_model", Value::Null), "config `d_model` is missing"),
        (
            "an input of another width",
            after(&|p| {
                p.reshape("input.u", &[2, 33, 5]);
                p.reshape("grad_input.u", &[2, 33, 5]);
            }),
            "config `d_model` is 16, and not 5 as `input.u` has shape [2, 33, 5]",
        ),
        (
            "an input without its batch",
            after(&|p| {
                p.reshape("input.u", &[33]);
                p.reshape("grad_input.u", &[33]);
            }),
            "`input.u` has shape [33], and its axes are batch, L, d_model",
        ),
        ("a gradient of another shape", after(&|p| p.reshape("grad_input.u", &[1])), "`grad_input.u` has shape [1]"),
        (
            "a cotangent of another shape",
            after(&|p| p.reshape("grad_output.y", &[2, 2])),
            "`grad_output.y` has shape [2, 2]",
        ),
        (
            "a parameter of another shape",
            after(&|p| {
                p.reshape("param.dt_bias", &[3, 1]);
                p.reshape("grad_param.dt_bias", &[3, 1]);
            }),
            "`param.dt_bias` has shape [3, 1], and the config asks for [4]",
        ),
        (
            "a parameter nobody has",
            after(&|p| {
                p.tensors.insert("param.extra".into(), (Dtype::F64, vec![1], vec![0; 8]));
                p.tensors.insert("grad_param.extra".into(), (Dtype::F64, vec![1], vec![0; 8]));
            }),
            "a place for `param.extra`",
        ),
        (
            "NaN in an input",
            after(&|p| p.poison("input.u", f64::NAN)),
            "`input.u` holds 1 number that is not finite, NaN at entry 2",
        ),
        (
            "infinity in a parameter",
            after(&|p| p.poison("param.D", f64::INFINITY)),
            "`param.D` holds 1 number that is not finite, inf",
        ),
        ("NaN in an output", after(&|p| p.poison("output.y", f64::NAN)), "`output.y` holds"),
        ("NaN in a gradient", after(&|p| p.poison("grad_param.dt_bias", f64::NAN)), "`grad_param.dt_bias` holds"),
        ("no heads", with_config("headdim", 0.into()), "`headdim` is 0"),
        ("a negative state", with_config("d_state", (-4).into()), "`d_state` is -4"),
        ("groups that do not divide", with_config("ngroups", 3.into()), "`ngroups` is 3"),
        ("no chunk", with_config("chunk_size", 0.into()), "`chunk_size` is 0"),
        ("another convolution", with_config("d_conv", 7.into()), "`param.conv1d.weight` has shape"),
        ("no bias of the convolution", with_config("conv_bias", false.into()), "a place for `param.conv1d.bias`"),
        ("a key nobody reads", with_config("frobnicate", true.into()), "does not use config `frobnicate` (true)"),
        ("a word for a number", with_config("d_state", "4".into()), "config `d_state` is \"4\""),
        ("another length", with_config("L", 32.into()), "config `L` is 32, and not 33"),
        (
            "an input nobody reads",
            after(&|p| {
                p.tensors.insert("input.seq_idx".into(), (Dtype::I64, vec![1], vec![0; 8]));
            }),
            "does not use `input.seq_idx`",
        ),
        ("a type no mixer reads", after(&|p| p.tensor("input.u").0 = Dtype::U64), "`input.u` has unsupported type U64"),
    ]
}

#[test]
fn every_kind_of_bad_file_fails_with_its_name_and_reason_and_never_panics() {
    let spoilt = spoilt();
    let folder = Folder::new();
    let file = |what: &str| format!("hydra__{}.f64.safetensors", what.replace(' ', "_"));
    for (what, parts, _) in &spoilt {
        folder.write(&format!("dumps/{}", file(what)), parts.bytes());
    }
    let good = fs::read(goldens().join(HYDRA)).expect("a dump");
    folder.write("dumps/hydra__cut.f64.safetensors", &good[..good.len() - 1]);
    folder.write("dumps/hydra__header_only.f64.safetensors", &good[..100]);
    folder.write("dumps/hydra__empty.f64.safetensors", "");
    folder.write("dumps/hydra__good.f64.safetensors", &good);
    fs::create_dir(folder.path("dumps/hydra__folder.f64.safetensors")).expect("makes a folder");
    let ended = folder.run("verify dumps").expect(1);
    let line = |name: &str| -> String {
        let found = ended.out.lines().find(|line| line.contains(name) && !line.starts_with("ok "));
        found.unwrap_or_else(|| panic!("{name} is not judged:\n{}", ended.out)).to_string()
    };
    for (what, _, want) in &spoilt {
        let line = line(&file(what));
        assert!(line.starts_with("FAIL ") && line.contains(want), "{what}, wanted {want}: {line}");
        assert!(line.chars().count() < 600 && !line.contains("Torch("), "{line}");
    }
    for name in ["hydra__cut", "hydra__header_only", "hydra__empty", "hydra__folder"] {
        assert!(line(name).starts_with("FAIL "), "{name}");
    }
    let good = ended.out.lines().filter(|line| line.starts_with("ok   hydra__good")).count();
    assert_eq!(good, 3, "the others are still held:\n{}", ended.out);
    let failed = spoilt.len() + 4;
    let counts = format!("{} files: 1 passed, {failed} failed, 0 unsupported", failed + 1);
    assert_eq!(ended.err.trim(), counts, "and nothing else on stderr");
    let json = folder.run("verify dumps --json").expect(1);
    let broken = json.out.lines().filter(|line| line.contains("\"broken\":")).count();
    assert!(broken + 1 >= failed, "{broken} of {failed} have a reason:\n{}", json.out);
}

#[test]
fn a_config_no_mixer_is_built_for_is_named_with_its_file() {
    let folder = Folder::new();
    let write = |name: &str, parts: &Parts| folder.write(&format!("dumps/{name}"), parts.bytes());
    let mut mode = Parts::of("s4_block__dplr_legs_bi_L65.f64.safetensors");
    mode.configure("mode", "ssd");
    write("s4_block__mode.f64.safetensors", &mode);
    let mut rank = Parts::of("s4_block__dplr_legs_bi_L65.f64.safetensors");
    for key in ["param.layer.kernel.P", "grad_param.layer.kernel.P"] {
        let (dtype, shape, data) = rank.tensor(key).clone();
        *rank.tensor(key) = (dtype, [&[2 * shape[0]], &shape[1..]].concat(), [data.clone(), data].concat());
    }
    write("s4_block__rank.f64.safetensors", &rank);
    let mut form = Parts::of("combiner__fixed_causal_L32_w8.f64.safetensors");
    form.configure("local_summary", "fourier-max");
    write("combiner__form.f64.safetensors", &form);
    let ended = folder.run("verify dumps").expect(1);
    let line = |name: &str| ended.out.lines().find(|line| line.contains(name)).expect("judged").to_string();
    let mode = line("s4_block__mode");
    assert!(mode.starts_with("skip ") && mode.contains("unsupported: config `mode` is `ssd`; replayed are "), "{mode}");
    let rank = line("s4_block__rank");
    assert!(rank.starts_with("FAIL ") && rank.contains("`param.layer.kernel.P` has shape [2, "), "{rank}");
    let form = line("combiner__form");
    assert!(form.starts_with("skip ") && form.contains("unsupported: summary `fourier-max`"), "{form}");
    assert!(ended.err.starts_with("3 files: 0 passed, 1 failed, 2 unsupported"), "{}", ended.err);
}

#[test]
fn a_dump_with_one_key_changed_or_added_is_met_or_refused_and_never_misread() {
    let folder = Folder::new();
    let cases = [
        ("matrix_mixer__low_rank_dd_L17.f64.safetensors", "d_conv", Value::from(5), "`param.conv1d.weight` has shape"),
        ("s4d_minimal__L33.f64.safetensors", "transposed", false.into(), "config `L` is 33, and not 8"),
        ("hydra__L33_groups2_bias.f64.safetensors", "conv_bias", false.into(), "a place for `param.conv1d.bias`"),
        ("ssd__L33_chunk16_D_z_softplus.f64.safetensors", "has_z", false.into(), "config `has_z` leaves `input.z` out"),
        (
            "ssd__L33_chunk16_D_z_softplus.f64.safetensors",
            "seq_idx",
            true.into(),
            "does not use config `seq_idx` (true)",
        ),
        ("bigs_layer__L32.f64.safetensors", "activation", "relu".into(), "config `activation` is \"relu\""),
    ];
    for (at, (name, key, value, _)) in cases.iter().enumerate() {
        let mut parts = Parts::of(name);
        parts.configure(key, value.clone());
        let family = name.split_once("__").expect("a family").0;
        folder.write(&format!("dumps/{family}__{at}.f64.safetensors"), parts.bytes());
    }
    let ended = folder.run("verify dumps").expect(1);
    for (at, (name, key, _, wanted)) in cases.iter().enumerate() {
        let line = ended.out.lines().find(|line| line.contains(&format!("__{at}.f64")));
        let line = line.unwrap_or_else(|| panic!("{name}: {}", ended.out));
        assert!(!line.starts_with("ok ") && line.contains(wanted), "{key}: {line}");
    }
}

#[test]
fn a_table_of_families_and_precisions_comes_last() {
    let folder = Folder::new();
    let line = format!("verify {} --skip-unsupported", goldens().display());
    let text = folder.run(&line).expect(0).out;
    let (_, table) = text.split_once("\n\n").expect("a blank line before the table");
    let head: Vec<&str> = table.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(head[..6], ["family", "precision", "files", "passed", "unsupported", "tensors"]);
    let json = folder.run(&format!("{line} --json")).expect(0).out;
    let last: Value = serde_json::from_str(json.lines().last().expect("lines")).expect("one object a line");
    let summary = last["summary"].as_array().expect("a list");
    assert_eq!(summary.len(), table.lines().count() - 1);
    let files = |of: &Value| of["files"].as_u64().expect("a count");
    assert_eq!(summary.iter().map(files).sum::<u64>(), json.lines().count() as u64 - 1);
    for one in summary.iter().filter(|one| one["passed"].as_u64() > Some(0)) {
        for side in ["values", "gradients"] {
            let (error, allowed) = (one[side]["error"].as_f64(), one[side]["allowed"].as_f64());
            assert!(error <= allowed, "{one}");
            let (precise, least) = (one["precision"] == "float64", allowed.unwrap_or(1e-9));
            assert!(if precise { least == 1e-9 } else { one[side].is_null() || least >= 1e-5 }, "{one}");
        }
        let shown = table.lines().find(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[..2] == [one["family"].as_str().expect("a name"), one["precision"].as_str().expect("a name")]
        });
        assert!(shown.is_some_and(|line| line.contains(one["values"]["key"].as_str().expect("a key"))), "{table}");
    }
    assert!(!folder.run(&format!("{line} -q")).expect(0).out.contains("precision"), "-q is for failures");
}

#[test]
fn the_doctor_looks_at_everything_and_finds_this_machine_fit() {
    let folder = Folder::new();
    let json = folder.run("doctor --json").expect(0);
    let json: Value = serde_json::from_str(&json.out).expect("one JSON document");
    let checks: Vec<&str> = json.as_array().expect("a list").iter().filter_map(|c| c["what"].as_str()).collect();
    assert_eq!(checks, ["libtorch", "CUDA", "threads", "memory", "data", "store", "fonts", "disk"]);
    let text = folder.run("doctor").expect(0);
    assert!(checks.iter().all(|what| text.out.contains(&format!(" {what} "))), "{}", text.out);
    assert!(folder.names("").is_empty(), "a look leaves nothing behind");
    let bad = folder.run("doctor --store /proc/runs").expect(3);
    assert!(bad.out.contains("BAD  store "), "{}", bad.out);
}

#[test]
fn what_there_is_can_be_listed_for_people_and_for_programs() {
    let folder = Folder::new();
    let mixers = folder.run("list mixers").expect(0).out;
    assert!(MIXERS.iter().all(|name| mixers.lines().any(|l| l.starts_with(&format!("{name} ")))), "{mixers}");
    let tasks: Value = serde_json::from_str(&folder.run("list tasks --json").expect(0).out).expect("one JSON document");
    let names: Vec<&str> = tasks.as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(["mqar", "listops", "text"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(tasks[0]["settings"]["kv_pairs"], 4);
    folder.run("list runs").expect(3);
    folder.run("list nothing").expect(2);
    let one = folder.run("list mixers s4").expect(0).out;
    for text in [
        "paper  Gu",
        "cost   time O(",
        "  mode: dplr ",
        " dplr | diag\n",
        " zoh | bilinear | dss | null\n",
        " diag  Diagonal: S4D.\n",
    ] {
        assert!(one.contains(text), "{text}\n{one}");
    }
    assert!(!one.contains("attention") && !one.contains('\x1b'), "one mixer, and plain where no terminal is:\n{one}");
    assert!(mixers.contains(" dplr | diag\n") && !mixers.contains("Diagonal: S4D."), "words are explained one by one");
    assert!(one.lines().chain(mixers.lines()).all(|line| line.chars().count() <= 100), "{one}");
    let json: Value =
        serde_json::from_str(&folder.run("list mixers s4 --json").expect(0).out).expect("one JSON document");
    let [s4] = &json.as_array().expect("a list")[..] else { panic!("one mixer: {json}") };
    assert_eq!(s4["schema"]["properties"]["d_state"]["type"], "integer");
    assert!(s4["paper"].as_str().is_some_and(|p| p.contains("arXiv")) && s4["complexity"].is_string(), "{s4}");
    assert!(folder.run("list mixers s44").expect(2).err.contains("unknown mixer `s44`\n  help: did you mean `s4`?"));
    let tasks = folder.run("list tasks mqar").expect(0).out;
    assert!(tasks.starts_with("mqar ") && !tasks.contains("listops"), "{tasks}");
    folder.run("list runs mqar").expect(2);
}

#[test]
fn a_reader_that_leaves_early_causes_no_panic() {
    let folder = Folder::new();
    for line in ["list mixers", "list tasks --json", "doctor"] {
        let mut child = folder.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take()); // gone before the first line, which is harder than `| head -1`
        let output = child.wait_with_output().expect("ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    }
}

#[test]
fn a_plan_tells_counts_and_costs() {
    let folder = Folder::with("five.yaml", FIVE);
    let json: Value = serde_json::from_str(&folder.run("plan five.yaml --measure 0 --json").expect(0).out)
        .expect("one JSON document");
    assert_eq!((&json["name"], &json["runs"]), (&Value::from("five"), &Value::from(10)));
    let kinds = json["kinds"].as_array().expect("a list");
    assert_eq!(kinds.iter().filter_map(|k| k["mixer"].as_str()).collect::<Vec<_>>(), MIXERS);
    for kind in kinds {
        let counted = |key: &str| kind[key].as_f64().unwrap_or(0.0);
        assert!(counted("parameters") > counted("mixer_parameters") && counted("mixer_parameters") > 0.0, "{kind}");
        assert!(counted("flops") > 0.0 && kind["seeds"] == 2, "{kind}");
    }
    let resolved = folder.run("plan five.yaml --print-config --filter mixer=s4").expect(0);
    assert_eq!(resolved.out.matches("\n---\n").count(), 1, "two runs, one mark between them:\n{}", resolved.out);
    assert!(
        resolved.out.contains("dt_min: 0.001") && resolved.out.contains("warmup_steps: 0"),
        "defaults are filled in"
    );
    assert!(folder.run("plan five.yaml").expect(0).out.starts_with("five: 10 runs"));
    assert_eq!(folder.names(""), ["five.yaml"], "a plan writes nothing");
}

#[test]
fn every_command_has_help() {
    let folder = Folder::new();
    let help = folder.run("--help").expect(0).out;
    for command in ["sweep", "plan", "run", "report", "list", "matrix", "verify", "bench", "data", "doctor"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}:\n{help}");
        let own = folder.run(&format!("{command} --help")).expect(0).out;
        assert!(own.contains(&format!("Usage: mixarena {command}")), "{own}");
    }
    assert!(help.contains("Exit codes:") && help.contains("  0    all well"), "{help}");
    assert!(folder.run("--version").expect(0).out.starts_with("mixarena "));
    let wrong = folder.run("swep five.yaml").expect(2);
    assert!(wrong.err.contains("similar subcommand exists: 'sweep'"), "{}", wrong.err);
}
