//! Language models and GLUE as a user runs them: a corpus of one's own, cut, trained on, fine-tuned from, and what is wrong with it.

use results::Record;
use serde_json::Value;
use tests::Folder;

/// Three hundred documents of some short sentences.
fn corpus() -> String {
    let (who, does, what) = (
        ["tom", "the cat", "a girl", "my dog"],
        ["saw", "found", "likes"],
        ["a ball", "the tree", "milk", "a red car"],
    );
    let sentence = |i: usize| format!("{} {} {}.", who[i % 4], does[i / 4 % 3], what[(i / 3 + i / 7) % 4]);
    (0..300).map(|i| format!("{} {}\n\n", sentence(i), sentence(7 * i + 1))).collect()
}

const CORPUS: &str = "corpus: { path: mine, held_out: 0.1 }, tokenizer: { wordpiece: { vocab_size: 64 } }";
const COLA: &str = "gj04\t1\t\ttom saw a ball.\ngj04\t0\t*\ttom a ball saw.\ngj04\t1\t\tmy dog likes milk.\ngj04\t0\t*\tmilk my likes dog.\n";

/// A folder with a corpus, minimal pairs, CoLA and `config`.
fn folder(config: &str) -> Folder {
    let folder = Folder::with("language.yaml", config);
    folder.write("data/mine/train.txt", corpus());
    folder.write("data/glue/CoLA/train.tsv", COLA.repeat(10));
    folder.write("data/glue/CoLA/dev.tsv", COLA);
    let pair = |good: &str, bad: &str, kind: &str| {
        format!("{{\"sentence_good\": \"{good}\", \"sentence_bad\": \"{bad}\", \"UID\": \"{kind}\"}}\n")
    };
    folder.write(
        "pairs.jsonl",
        pair("tom saw a ball.", "tom a ball saw.", "order") + &pair("a girl likes milk.", "a girl milk.", "verb"),
    );
    folder
}

fn config() -> String {
    format!(
        "\
name: language
tasks:
  - name: masked
    task: {{ mlm: {{ {CORPUS}, seq_len: 16 }} }}
    analysis: {{ pseudo_perplexity: 3, minimal_pairs: pairs.jsonl }}
  - name: causal
    task: {{ clm: {{ {CORPUS}, seq_len: 16 }} }}
    analysis: {{ minimal_pairs: pairs.jsonl }}
  - name: cola
    task: {{ glue: {{ task: cola, {CORPUS}, max_length: 16 }} }}
    start: masked
mixers: [{{ attention: {{ n_heads: 2 }} }}]
model: {{ d_model: 16, n_layers: 1 }}
budget: {{ steps: 6, batch_size: 8, eval_every: 3 }}
figures: [ details: {{ axis: frequency }}, details: {{ axis: distance }} ]
"
    )
}

fn of<'a>(records: &'a [Record], task: &str) -> &'a Record {
    records.iter().find(|record| !record.spec["task"][task].is_null()).expect("it ran")
}

/// The share of one pair, in a folder of files, that a trained model gets right.
fn minimal_pairs(folder: &Folder, good: &str, bad: &str) -> f64 {
    folder.write("pairs/one.jsonl", format!("{{\"sentence_good\": \"{good}\", \"sentence_bad\": \"{bad}\"}}\n"));
    folder.write("pairs/notes.txt", "no pairs");
    folder.write("pairs.yaml", config().replace("pairs.jsonl", "pairs"));
    folder.run("sweep pairs.yaml --store pairs-runs -k task=masked --set budget.steps=40").expect(0);
    let share = folder.records_in("pairs-runs").last().expect("it ran").measures["minimal_pairs"];
    std::fs::remove_dir_all(folder.path("pairs-runs")).expect("a store");
    share
}

#[test]
fn a_corpus_of_one_s_own_is_cut_modelled_and_fine_tuned_from() {
    let folder = folder(&config());
    let said = folder.run("sweep language.yaml -j 1").expect(0);
    assert!(said.out.contains("baseline: unigram"), "{}", said.out);
    let records = folder.records();
    assert_eq!(records.len(), 3);
    let masked = of(&records, "mlm");
    for name in ["pseudo_perplexity", "minimal_pairs", "loss of unigram", "accuracy of unigram"] {
        assert!(masked.measures[name].is_finite(), "{name}: {:?}", masked.measures);
    }
    let (loss, perplexity) = (masked.measures["loss"], masked.measures["perplexity"]);
    assert!((perplexity / loss.exp() - 1.0).abs() < 1e-9);
    assert!([0.0, 0.5, 1.0].contains(&masked.measures["minimal_pairs"]));
    for axis in ["frequency", "position", "distance", "phenomenon"] {
        assert!(masked.details.iter().any(|detail| detail.axis == axis), "{axis}");
    }
    let causal = of(&records, "clm");
    assert!(causal.measures["bits_per_byte"] > 0.0 && !causal.measures.contains_key("pseudo_perplexity"));
    let cola = of(&records, "glue");
    assert_eq!(cola.spec["start"]["run"], Value::from(masked.id.as_str()));
    assert!(cola.measures["mcc"].abs() <= 1.0 && cola.metric == "Matthews correlation", "{:?}", cola.measures);
    let report = folder.text("runs/reports/language/report.md");
    assert!(report.contains("## Language models") && report.contains("## GLUE"), "{report}");
    // Unknown words count against a sentence, and pairs that are cut alike are undecided.
    assert_eq!(minimal_pairs(&folder, "milk.", &"\u{2603} ".repeat(12)), 1.0);
    assert_eq!(minimal_pairs(&folder, "tom saw a ball.", "TOM saw a ball."), 0.5);
    // The set is there: nothing is prepared again, and nothing half-made lies about.
    let sets = folder.names("data/.prepared");
    assert!(sets.iter().all(|name| !name.ends_with(".part")), "{sets:?}");
    let said = folder.run("sweep language.yaml").expect(0).err;
    assert!(said.contains("nothing left to do"), "{said}");
    assert_eq!(folder.names("data/.prepared"), sets);
}

#[test]
fn another_text_is_another_run_and_another_tokenizer_is_no_start() {
    let folder = folder(&config());
    let ids = |folder: &Folder| folder.run("sweep language.yaml -n").expect(0).out;
    let before = ids(&folder);
    folder.write("data/mine/train.txt", corpus() + "a new sentence.\n");
    assert!(before.lines().zip(ids(&folder).lines()).all(|(a, b)| a != b), "{before}");
    let other = config().replace(
        "task: cola, corpus: { path: mine, held_out: 0.1 }",
        "task: cola, corpus: { path: mine, held_out: 0.2 }",
    );
    folder.write("language.yaml", other);
    let ended = folder.run("plan language.yaml --measure 0");
    let ended = if ended.code == Some(0) { folder.run("sweep language.yaml -n") } else { ended };
    assert_ne!(ended.code, Some(0));
    assert!(ended.err.contains("its tokenizer is not that of `masked`"), "{}", ended.err);
}

#[test]
fn two_processes_prepare_one_set() {
    let folder = folder(&config());
    let both = [folder.start("sweep language.yaml -n"), folder.start("sweep language.yaml -n")];
    let [a, b] = both.map(|command| command.wait().expect(0).out);
    assert_eq!(a, b);
    let sets = folder.names("data/.prepared");
    assert!(sets.iter().all(|name| !name.contains(".part") && !name.contains(".lock")), "{sets:?}");
}

#[test]
fn what_is_wrong_with_a_text_or_a_table_is_told_with_its_place() {
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("data/mine/train.txt", [corpus().as_bytes(), b"bad \xff byte\n"].concat(), "data/mine/train.txt:601"),
        ("data/mine/train.txt", Vec::new(), "mine"),
        ("data/glue/CoLA/train.tsv", b"index\tsentence\n0\ttom saw.\n".to_vec(), "has no labels"),
        ("data/glue/CoLA/train.tsv", b"gj04\t1\n".repeat(3), "CoLA/train.tsv"),
        ("pairs.jsonl", b"{\"sentence_good\": 3}\n".to_vec(), "pairs.jsonl:1"),
    ];
    for (name, content, wanted) in cases {
        let folder = folder(&config());
        folder.write(name, content);
        let ended = folder.run("sweep language.yaml -j 1");
        assert!(matches!(ended.code, Some(1..=3)), "{name}: {:?}", ended.code);
        let reasons: String = match folder.names("runs/records").is_empty() {
            true => String::new(),
            false => folder.records().iter().map(|record| record.outcome.reason().to_owned()).collect(),
        };
        assert!(format!("{} {reasons}", ended.err).contains(wanted), "{name}: {} {reasons}", ended.err);
    }
    // Rows that are wrong among rows that are not are skipped, counted and named.
    let folder = folder(&config());
    folder.write("data/glue/CoLA/train.tsv", COLA.repeat(10) + "gj04\t1\n" + "gj04\t7\t\tx y.\n");
    folder.run("sweep language.yaml -j 1").expect(0);
    let notes = of(&folder.records(), "glue").notes.join("\n");
    assert!(notes.contains("2 of 42 rows are skipped, the first is train.tsv:41"), "{notes}");
}

#[test]
fn exported_weights_start_the_same_model() {
    let folder = folder(&config());
    folder.run("sweep language.yaml -j 1 -k task=masked").expect(0);
    let id = folder.record().id;
    for names in ["own", "reference"] {
        folder.run(&format!("export-weights {id} --out {names}.safetensors --names {names}")).expect(0);
        let text = config().replace("start: masked", &format!("start: {{ weights: {names}.safetensors }}"));
        folder.write("file.yaml", text.replace("name: language", &format!("name: {names}")));
        folder.run("sweep file.yaml -j 1 -k task=cola").expect(0);
    }
    folder.run("sweep language.yaml -j 1 -k task=cola").expect(0);
    let records = folder.records();
    let scores: Vec<_> =
        records.iter().filter(|r| !r.spec["task"]["glue"].is_null()).map(|r| (&r.curve, r.scores.test)).collect();
    assert_eq!(scores.len(), 3, "three ways to start");
    assert!(scores.windows(2).all(|pair| pair[0] == pair[1]), "{scores:?}");
}

#[test]
fn the_config_beside_exported_weights_is_held_against_the_model() {
    let folder = folder(&config());
    folder.run("sweep language.yaml -j 1 -k task=masked").expect(0);
    let id = folder.record().id;
    folder.write("weights/README", "");
    let said = folder.run(&format!("export-weights {id} --out weights/model.safetensors")).expect(0).err;
    assert!(said.contains("config:  weights/config.json"), "{said}");
    let text = config().replace("start: masked", "start: { weights: weights/model.safetensors }");
    folder.write("file.yaml", &text);
    folder.run("plan file.yaml --measure 0 -k task=cola").expect(0);
    let written: Value = serde_json::from_str(&folder.text("weights/config.json")).expect("JSON");
    let wanted = [("hidden_size", 16), ("num_hidden_layers", 1), ("num_attention_heads", 2), ("seq_len", 16)];
    for (key, value) in wanted {
        assert_eq!(written[key], value, "{key}: {written}");
    }
    // As many heads as one likes fit the same tensors.
    folder.write("heads.yaml", text.replace("n_heads: 2", "n_heads: 4"));
    let ended = folder.run("sweep heads.yaml -j 1 -k task=cola");
    assert!(ended.code != Some(0), "{}", ended.out);
    assert!(
        ended.err.contains("weights/config.json: `num_attention_heads` is 2, and `n_heads` of this model is 4")
            && ended.err.contains("set `n_heads: 2` at the mixer"),
        "{}",
        ended.err
    );
    assert_eq!(folder.records().len(), 1, "nothing was trained");
    folder.write("weights/config.json", "{");
    let ended = folder.run("sweep file.yaml -j 1 -k task=cola");
    assert!(ended.code != Some(0) && ended.err.contains("weights/config.json: line 1, column"), "{}", ended.err);
    // Two exports to one folder do not overwrite each other's description.
    folder.run(&format!("export-weights {id} --out weights/model.safetensors")).expect(0);
    assert!(folder.path("weights/model.config.json").is_file());
    folder.run("plan file.yaml --measure 0 -k task=cola").expect(0);
}
