//! Laws of tokenizers, and what is known of BERT's.

use super::*;
use proptest::prelude::*;
use std::fs;

const TEXT: &str =
    "the cat sat on the mat. the cat's hat isn't that fat!\nThe unaffable cat, unaffected, sat: 1234 cats.\n";

fn texts(text: &str) -> impl FnMut() -> Result<Texts, DataError> {
    let lines: Vec<String> = text.lines().map(String::from).collect();
    move || Ok(Box::new(lines.clone().into_iter().map(Ok)))
}

fn trained(config: &TokenizerConfig, text: &str) -> Tokenizer {
    let json = train::json(config, config.budget().unwrap(), texts(text)().unwrap()).unwrap();
    Tokenizer::of_json(config, json.as_bytes()).unwrap()
}

fn wordpiece(vocab_size: u32) -> TokenizerConfig {
    TokenizerConfig::Wordpiece(WordpieceConfig { vocab_size, ..WordpieceConfig::default() })
}

fn bpe(vocab_size: u32) -> TokenizerConfig {
    TokenizerConfig::Bpe(BpeConfig { vocab_size, ..BpeConfig::default() })
}

/// One of each form.
fn every() -> Vec<Tokenizer> {
    let mut all = vec![Tokenizer::bytes()];
    for config in [TokenizerConfig::Characters(CharactersConfig::default()), wordpiece(200), bpe(300)] {
        all.push(trained(&config, TEXT));
    }
    all
}

/// A list of word pieces in a folder of its own, read with these settings.
fn of_file(name: &str, content: &str, lowercase: Option<bool>) -> Result<Tokenizer, DataError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let config = TokenizerConfig::File(FileConfig { path: name.into(), lowercase });
    Tokenizer::obtain(&DataDir(folder.path().into()), &config, "", &mut || panic!("nothing is trained"))
}

fn names(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text).into_iter().map(|token| tokenizer.name(token)).collect()
}

pub(crate) const BERT: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwant\n##want\n##ed\nwa\nun\nrunn\n##ing\n,\nlow\nlowest\n##aff\n##able\nresume\nbert\n!\n'\ns\n中\n文\nHello\nhello\n";

#[test]
fn word_pieces_are_cut_as_bert_cuts_them() {
    let bert = of_file("vocab.txt", BERT, None).unwrap();
    // google-research/bert, tokenization_test.py: full, no lower case and wordpiece tests.
    assert_eq!(names(&bert, "UNwant\u{c9}d,running"), ["un", "##want", "##ed", ",", "runn", "##ing"]);
    assert_eq!(names(&bert, "unwanted running"), ["un", "##want", "##ed", "runn", "##ing"]);
    assert_eq!(names(&bert, "unwantedX running"), ["[UNK]", "runn", "##ing"]);
    assert_eq!(names(&bert, " \tHeLLo!bert \n 's "), ["hello", "!", "bert", "'", "s"]);
    assert_eq!(names(&bert, "ré\u{301}sumé bert中文"), ["resume", "bert", "中", "文"]);
    assert_eq!(names(&bert, "un\u{0}aff\u{200b}able"), ["un", "##aff", "##able"], "control characters are dropped");
    assert_eq!(names(&bert, &"a".repeat(101)), ["[UNK]"]);
    assert_eq!(names(&bert, "[MASK]"), ["[UNK]", "[UNK]", "[UNK]"], "a name in a text is text");
    assert_eq!(bert.encode(""), [0_u32; 0]);
    assert_eq!(bert.specials(), Specials::OURS);
    assert_eq!(bert.decode(&bert.encode("unaffable running, hello!")), "unaffable running, hello!");
    let cased = of_file("vocab.txt", BERT, Some(false)).unwrap();
    assert_eq!(names(&cased, "Hello hello resumé"), ["Hello", "hello", "[UNK]"]);
    assert_ne!(cased.fingerprint(), bert.fingerprint());
}

#[test]
fn a_file_with_faults_is_refused_by_name_and_line() {
    let refused = |name: &str, content: &str, lowercase| of_file(name, content, lowercase).unwrap_err().to_string();
    let ends = |error: String, end: &str| assert!(error.ends_with(end), "{error}");
    ends(
        refused("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n\nb\n", None),
        "vocab.txt:5: is empty; every line of a vocab.txt is a word piece",
    );
    ends(refused("vocab.txt", "[UNK]\na\n[CLS]\n[SEP]\na\n", None), "vocab.txt:5: `a` stands in line 2 already");
    ends(
        refused("vocab.txt", "a\nb\n", None),
        "vocab.txt: has no [UNK], which a vocab.txt of BERT has; add it as a line of its own",
    );
    assert!(refused("tokenizer.json", "{\"model\": 1}", None).contains("tokenizer.json: is no tokenizer: "));
    ends(refused("t", " {}", Some(true)), "which says itself what becomes of capitals; remove `lowercase`");
    let missing = TokenizerConfig::File(FileConfig { path: "no/vocab.txt".into(), lowercase: None });
    let missing = Tokenizer::obtain(&DataDir("/nowhere".into()), &missing, "", &mut || panic!()).unwrap_err();
    assert!(matches!(missing, DataError::Missing { .. }));
}

#[test]
fn a_file_without_a_mask_says_so_when_one_is_asked_for() {
    let without = of_file("vocab.txt", &BERT.replace("[MASK]\n", ""), None).unwrap();
    assert_eq!(names(&without, "hello"), ["hello"]);
    let error = without.require_mask().unwrap_err().to_string();
    assert!(
        error.contains("vocab.txt: has no mask token") && error.contains("add one of [MASK], <mask>, <|mask|>"),
        "{error}"
    );
    assert!((0..without.vocab_size() as u32).all(|token| without.is_special(token) == (token < 4)));
    assert_eq!(Tokenizer::bytes().require_mask().unwrap(), 4);
}

#[test]
fn what_was_trained_can_be_read_as_a_file_and_specials_go_by_other_names() {
    for config in [wordpiece(90), bpe(300)] {
        let ours = trained(&config, TEXT);
        let json = train::json(&config, 1000, texts(TEXT)().unwrap()).unwrap();
        let read = of_file("tokenizer.json", &json, None).unwrap();
        assert_eq!((read.encode(TEXT), read.fingerprint()), (ours.encode(TEXT), ours.fingerprint()));
        let renamed = NAMES.iter().zip(["<pad>", "<unk>", "<s>", "</s>", "<mask>"]);
        let renamed = renamed.fold(json, |json, (from, to)| json.replace(from, to));
        let read = of_file("tokenizer.json", &renamed, None).unwrap();
        assert_eq!((read.encode(TEXT), read.specials()), (ours.encode(TEXT), Specials::OURS));
    }
    // GPT-2 has one special token and no mask.
    let gpt2 = train::json(&bpe(300), 1000, texts(TEXT)().unwrap()).unwrap().replace("[SEP]", "<|endoftext|>");
    let gpt2 =
        ["[PAD]", "[UNK]", "[CLS]", "[MASK]"].iter().fold(gpt2, |json, name| json.replace(name, &format!("{name}x")));
    let gpt2 = of_file("tokenizer.json", &gpt2, None).unwrap().specials();
    assert_eq!(gpt2, Specials { pad: 3, unknown: 3, cls: 3, sep: 3, mask: u32::MAX });
}

#[test]
fn two_trainings_are_equal_and_learn_what_is_frequent() {
    let many: String = (0..400).map(|i| format!("word{} thing{} {}\n", i % 37, i * i % 101, TEXT)).collect();
    for config in [wordpiece(170), bpe(340), TokenizerConfig::Characters(CharactersConfig::default())] {
        let once = || train::json(&config, 1_000_000, texts(&many)().unwrap()).unwrap();
        assert_eq!(once(), once());
    }
    let pieces = trained(&wordpiece(170), &many);
    assert_eq!(pieces.vocab_size(), 170);
    assert_eq!(names(&pieces, "The unaffable cat"), ["the", "unaffable", "cat"]);
    let pairs = trained(&bpe(340), &many);
    assert_eq!(pairs.vocab_size(), 340);
    assert_eq!(names(&pairs, " the cat sat"), ["Ġthe", "Ġcat", "Ġsat"]);
    let few = CharactersConfig { vocab_size: 8, lowercase: true, ..CharactersConfig::default() };
    let few = trained(&TokenizerConfig::Characters(few), "Éébca ccbb\n  aab");
    assert_eq!((5..8).map(|id| few.name(id)).collect::<String>(), "b a");
    assert_eq!(few.encode("CaX"), [1, 7, 1]);
}

#[test]
fn the_first_merges_are_those_of_the_paper() {
    // Sennrich et al. 2016, section 3.2: low 5, lower 2, newest 6, widest 3 merges e s, es t first.
    let text =
        [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)].map(|(word, n)| format!("{word} ").repeat(n)).concat();
    let config =
        TokenizerConfig::Wordpiece(WordpieceConfig { vocab_size: 64, alphabet: 20, ..WordpieceConfig::default() });
    let pieces = trained(&config, &text);
    let first = (5..64).map(|id| pieces.name(id)).find(|name| name.trim_start_matches('#').len() > 1).unwrap();
    assert_eq!(first, "##es");
    let all: Vec<String> = (0..pieces.vocab_size() as u32).map(|id| pieces.name(id)).collect();
    assert!(
        ["##est", "low", "newest", "widest", "lower"].iter().all(|name| all.contains(&(*name).to_owned())),
        "{all:?}"
    );
    assert!(pieces.vocab_size() < 64, "there is nothing left to merge");
}

#[test]
fn a_pair_that_overlaps_itself_is_counted_rightly() {
    let config = TokenizerConfig::Bpe(BpeConfig { vocab_size: 264, min_frequency: 1, ..BpeConfig::default() });
    let pairs = trained(&config, "aaaaaaa");
    assert_eq!(names(&pairs, "aaaaaaa").concat(), "aaaaaaa");
    assert_eq!(
        (261..pairs.vocab_size() as u32).map(|id| pairs.name(id)).collect::<Vec<_>>(),
        ["aa", "aaaa", "aaa"].map(String::from)[..pairs.vocab_size() - 261]
    );
}

#[test]
fn training_reads_no_more_than_its_budget() {
    let read = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = read.clone();
    let endless = std::iter::repeat_with(move || {
        seen.set(seen.get() + 1);
        Ok("zé".repeat(50))
    });
    train::json(&TokenizerConfig::Characters(CharactersConfig::default()), 401, Box::new(endless)).unwrap();
    assert_eq!(read.get(), 3, "150 bytes each");
}

#[test]
fn a_second_start_loads_what_the_first_trained_and_other_settings_train_anew() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let mut trainings = 0;
    let mut obtain = |config: &TokenizerConfig, stamp: &str| {
        Tokenizer::obtain(&data, config, stamp, &mut || {
            trainings += 1;
            texts(TEXT)()
        })
        .unwrap()
        .fingerprint()
    };
    let first = obtain(&wordpiece(90), "a");
    assert_eq!(obtain(&wordpiece(90), "a"), first);
    obtain(&wordpiece(91), "a");
    obtain(&wordpiece(90), "b");
    obtain(&TokenizerConfig::Characters(CharactersConfig::default()), "a");
    obtain(&TokenizerConfig::Bytes, "a");
    assert_eq!(trainings, 4);
    let kept = fs::read_dir(folder.path().join(".prepared")).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<String> = kept.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(kept.len() == 4 && kept.iter().all(|name| name.starts_with("tokenizer-v1-")), "{kept:?}");
    // A text that cannot be read leaves nothing behind.
    let mut broken = || Err(DataError::Unreadable { path: "x".into(), why: "y".into() });
    Tokenizer::obtain(&data, &bpe(300), "a", &mut broken).unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join(".prepared")).unwrap().count(), 4);
}

#[test]
fn words_are_runs_of_letters_and_digits_in_every_form() {
    for tokenizer in every() {
        let tokens = tokenizer.encode("the cat's mat, 1234");
        let mut words = vec![vec![tokens[0]]];
        for two in tokens.windows(2) {
            match tokenizer.continues(two[0], two[1]) {
                true => words.last_mut().unwrap().push(two[1]),
                false => words.push(vec![two[1]]),
            }
        }
        let words: Vec<String> =
            words.iter().map(|word| tokenizer.decode(word).trim().trim_start_matches("##").to_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        assert_eq!(words, ["the", "cat", "'", "s", "mat", ",", "1234"], "{tokenizer:?}");
        assert!(!tokenizer.continues(tokenizer.specials().cls, tokens[0]), "{tokenizer:?}");
    }
}

#[test]
fn settings_are_read_as_documented_and_faults_are_named() {
    let read = |json: &str| serde_json::from_str::<TokenizerConfig>(json);
    assert_eq!(read("\"bytes\"").unwrap(), TokenizerConfig::Bytes);
    assert_eq!(read(r#"{ "wordpiece": { "vocab_size": 90 } }"#).unwrap(), wordpiece(90));
    assert!(read(r#"{ "wordpiece": { "size": 90 } }"#).unwrap_err().to_string().contains("size"));
    assert!(read(r#"{ "file": {} }"#).unwrap_err().to_string().contains("path"));
    let problems =
        |config: &TokenizerConfig| -> Vec<String> { config.check().into_iter().map(|error| error.problem).collect() };
    assert_eq!(problems(&wordpiece(8)), ["`wordpiece.vocab_size` is 8, not between 64 and 2^20"]);
    assert_eq!(problems(&bpe(260)), ["`bpe.vocab_size` is 260, not between 261 and 2^20"]);
    let never = BpeConfig { train_megabytes: 0, ..BpeConfig::default() };
    assert_eq!(problems(&TokenizerConfig::Bpe(never)), ["`bpe.train_megabytes` is 0, not between 1 and 20000"]);
    let idle = FileConfig { path: "a/tokenizer.json".into(), lowercase: Some(true) };
    assert_eq!(problems(&TokenizerConfig::File(idle)), ["`file.lowercase` does nothing with a/tokenizer.json"]);
    assert_eq!(problems(&TokenizerConfig::default()), [""; 0]);
}

#[test]
fn many_texts_are_cut_as_each_is() {
    let texts: Vec<String> = (0..300).map(|i| TEXT.repeat(i % 5)).collect();
    for tokenizer in every() {
        let each: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
        assert_eq!(tokenizer.encode_all(&texts), each);
    }
}

#[test]
fn a_model_with_settings_of_its_own_is_cut_by_hugging_face() {
    let text = format!("{}{}", "thecatsat".repeat(20), "unaffable,cat!".repeat(9));
    let json = |config: &TokenizerConfig| -> serde_json::Value {
        serde_json::from_str(&train::json(config, 1000, texts(TEXT)().unwrap()).unwrap()).unwrap()
    };
    let pieces = |json: &serde_json::Value| Pieces::of_json(json.to_string().as_bytes()).unwrap();
    let (bert, gpt2) = (json(&wordpiece(120)), json(&bpe(300)));
    let changes: [(&serde_json::Value, [&str; 2], serde_json::Value); 6] = [
        (&bert, ["model", "max_input_chars_per_word"], 400.into()),
        (&bert, ["normalizer", "lowercase"], false.into()),
        (&bert, ["normalizer", "handle_chinese_chars"], false.into()),
        (&gpt2, ["model", "ignore_merges"], true.into()),
        (&gpt2, ["model", "end_of_word_suffix"], "t".into()),
        (
            &gpt2,
            ["model", "merges"],
            gpt2["model"]["merges"]
                .as_array()
                .unwrap()
                .iter()
                .map(|two| format!("{} {}", two[0].as_str().unwrap(), two[1].as_str().unwrap()))
                .collect(),
        ),
    ];
    for (whole, [part, key], value) in changes {
        let mut changed = whole.clone();
        changed[part][key] = value;
        let changed = pieces(&changed);
        for text in [&text, &format!("{text}中文{text}"), &text.to_uppercase()] {
            assert_eq!(changed.encode(text), changed.encode_directly(text), "{part}.{key}");
        }
    }
    // A word one letter too long is unknown, and one that long is not.
    let long = pieces(&bert);
    let unknown = long.find(&["[UNK]"]).unwrap();
    assert_eq!(long.encode(&"cat".repeat(34)), [unknown]);
    assert!(!long.encode(&"cat".repeat(33)).contains(&unknown));
}

proptest! {
    #[test]
    fn cutting_at_seams_moves_no_token(text in "([a-e '.,\u{0}-\u{20}\u{85}\u{a0}\u{2028}é\u{301}中ß1\u{200b}]|\\PC){0,60}") {
        for config in [wordpiece(120), bpe(290)] {
            let Form::Pieces(pieces) = trained(&config, TEXT).form else { panic!("pieces") };
            prop_assert_eq!(pieces.encode(&text), pieces.encode_directly(&text));
            prop_assert_eq!(pieces.encode(&text), pieces.encode_directly(&text), "from memory");
        }
    }

    #[test]
    fn long_stretches_without_white_space_move_no_token(
        runs in prop::collection::vec(
            prop_oneof![
                "[a-eA-E]{1,90}",
                "[a-e]{98,103}",
                "(cat|THE|sat|1|23|'s|'ll|'re|''|!|,|-){1,60}",
                "[A-Za-z0-9+/=]{20,150}",
                "[!-/]{1,60}",
                "[a-e',.é\u{301}中文\u{f900}ßбв。\u{200b}\u{302e}\u{338}\u{fffd}\u{7}]{1,80}",
                "\\PC{1,60}",
                "[ \n\u{b}]",
                "a{1,300}",
            ],
            1..8,
        ),
        lowercase in any::<bool>(),
    ) {
        let text = runs.concat();
        let bert = WordpieceConfig { vocab_size: 120, lowercase, ..WordpieceConfig::default() };
        for config in [TokenizerConfig::Wordpiece(bert), bpe(290)] {
            let Form::Pieces(pieces) = trained(&config, &format!("{TEXT} aaaaaaaa aaa 'll 23 !! +/")).form else { panic!("pieces") };
            prop_assert_eq!(pieces.encode(&text), pieces.encode_directly(&text));
        }
    }

    #[test]
    fn bytes_and_pairs_give_back_every_text(text in "\\PC{0,40}") {
        let pairs = trained(&bpe(290), TEXT);
        for tokenizer in [Tokenizer::bytes(), pairs] {
            let tokens = tokenizer.encode(&text);
            prop_assert_eq!(tokenizer.decode(&tokens), text.clone());
            prop_assert!(tokens.iter().all(|&token| !tokenizer.is_special(token) && (token as usize) < tokenizer.vocab_size()));
        }
    }

    #[test]
    fn merging_reaches_the_pairs_that_counting_anew_would(words in proptest::collection::vec(("[ab]{1,6}", 1..9_usize), 1..12)) {
        // The same, without keeping counts: every step counts all pairs of all words.
        let text = words.iter().map(|(word, n)| format!("{word} ").repeat(*n)).collect::<String>();
        let (mut rows, mut merged) = (Vec::<(Vec<String>, usize)>::new(), Vec::new());
        let mut spaced = false;
        for word in text.split_whitespace() {
            let mut row: Vec<String> = word.chars().map(String::from).collect();
            if spaced { row.insert(0, "\u{120}".into()); }
            spaced = true;
            rows.push((row, 1));
        }
        let mut known: Vec<String> = train_names();
        while known.len() < 270 {
            let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
            let number = |name: &String| known.iter().position(|k| k == name).unwrap();
            for (row, n) in &rows {
                row.windows(2).for_each(|two| *counts.entry((number(&two[0]), number(&two[1]))).or_default() += n);
            }
            let Some((&pair, _)) = counts.iter().filter(|(_, n)| **n >= 2).max_by_key(|(pair, n)| (**n, std::cmp::Reverse(**pair))) else { break };
            let (left, right) = (known[pair.0].clone(), known[pair.1].clone());
            let new = format!("{left}{right}");
            if !known.contains(&new) { known.push(new.clone()); }
            if !merged.contains(&[left.clone(), right.clone()]) { merged.push([left.clone(), right.clone()]); }
            for (row, _) in &mut rows {
                let mut i = 0;
                while i + 1 < row.len() {
                    if row[i] == left && row[i + 1] == right { row[i] = new.clone(); row.remove(i + 1); }
                    i += 1;
                }
            }
        }
        let lines = text.trim_end().to_owned();
        let json: serde_json::Value = serde_json::from_str(&train::json(&bpe(270), 1_000_000, texts(&lines)().unwrap()).unwrap()).unwrap();
        prop_assert_eq!(&json["model"]["merges"], &serde_json::json!(merged));
    }
}

/// Names of a vocabulary of bytes, by number.
fn train_names() -> Vec<String> {
    let bytes = TokenizerConfig::Bpe(BpeConfig { vocab_size: 261, ..BpeConfig::default() });
    let tokenizer = trained(&bytes, "");
    (0..261).map(|id| tokenizer.name(id)).collect()
}

#[test]
fn a_number_far_beyond_the_vocabulary_is_refused_and_nothing_of_its_size_is_held() {
    let json = train::wordpiece_json(&train::vocabulary(BERT.lines().map(str::to_owned)), true);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        let (read, peak) = fuzzing::peak_of(|| of_file("tokenizer.json", &json.to_string(), None));
        assert!(peak.bytes < 8 << 20, "{} bytes are held", peak.bytes);
        read.map(|tokenizer| tokenizer.vocab_size()).map_err(|error| error.to_string())
    };
    assert_eq!(with(&|_| ()), Ok(26));
    for number in [4_294_967_295_u64, 3_000_000_000, u64::MAX, 1 << 20] {
        let said = with(&|json| json["model"]["vocab"]["hello"] = number.into()).unwrap_err();
        let end = format!("token `hello` has the number {number}, and there are 26 tokens: number them from 0 on");
        assert!(said.ends_with(&end), "{said}");
    }
    let added = |number: u64| serde_json::json!({ "id": number, "content": "[X]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    let said = with(&|json| json["added_tokens"] = serde_json::json!([added(4_294_967_295)])).unwrap_err();
    assert!(said.contains("token `[X]` has the number 4294967295"), "{said}");
    // A few numbers without a token are no fault.
    assert_eq!(with(&|json| json["model"]["vocab"]["hello"] = 40.into()), Ok(41));
}

#[test]
fn a_file_that_cuts_a_text_anew_each_time_or_cannot_cut_it_is_refused() {
    let json = |model: serde_json::Value| {
        serde_json::json!({ "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
                            "post_processor": null, "decoder": null, "model": model })
    };
    let bpe = |dropout: serde_json::Value, unknown: &str| {
        json(serde_json::json!({ "type": "BPE", "dropout": dropout, "unk_token": unknown, "fuse_unk": false,
            "byte_fallback": false, "vocab": { "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3 }, "merges": [] }))
    };
    let said = |json: serde_json::Value| of_file("tokenizer.json", &json.to_string(), None).unwrap_err().to_string();
    assert!(said(bpe(0.5.into(), "[UNK]")).contains("drops merges at random"));
    let error = said(bpe(serde_json::Value::Null, "[NONE]"));
    assert!(error.contains("cannot cut every text"), "{error}");
    of_file("tokenizer.json", &bpe(serde_json::Value::Null, "[UNK]").to_string(), None).unwrap();
}
