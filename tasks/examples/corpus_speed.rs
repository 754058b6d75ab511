//! How fast a corpus is learned from and prepared, and how much memory that takes. Kill it and start it again to see it go on.
//!
//! ```text
//! MIXARENA_CORPUS=DATA/FOLDER MIXARENA_TOKENIZER=bytes cargo run --release -p tasks --example corpus_speed
//! ```
//! `MIXARENA_TOKENIZER`: `bytes`, or the settings of another as JSON: `{"wordpiece": {"vocab_size": 8192}}`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tasks::data::prepared::{Event, listen};
use tasks::language::corpus::{Corpus, CorpusConfig, Packing, Paths, Shape};
use tasks::language::tokenizer::TokenizerConfig;
use tasks::{DataDir, Split, Tokenizer};

fn main() {
    let set = PathBuf::from(std::env::var_os("MIXARENA_CORPUS").expect("MIXARENA_CORPUS names a folder of text"));
    let tokenizer = std::env::var("MIXARENA_TOKENIZER").unwrap_or_else(|_| "bytes".into());
    let tokenizer: TokenizerConfig = if tokenizer == "bytes" {
        TokenizerConfig::Bytes
    } else {
        serde_json::from_str(&tokenizer).expect("it can be read")
    };
    let data = DataDir(set.parent().expect("it can be read").into());
    let config =
        CorpusConfig { path: Paths::of([set.file_name().expect("it can be read")]), ..CorpusConfig::default() };
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
    };
    listen(Box::new(|event| {
        if let Event::Preparing { bytes, of: Some(of), .. } = event {
            println!("{bytes} of {of}");
        }
    }));
    let start = Instant::now();
    let stamp = config.stamp(&data).expect("it can be read");
    let mut texts = || config.documents(&data, Split::Train);
    let tokenizer = Arc::new(Tokenizer::obtain(&data, &tokenizer, &stamp, &mut texts).expect("it can be read"));
    println!("tokenizer of {} tokens: {:.1} s, {}", tokenizer.vocab_size(), start.elapsed().as_secs_f64(), peak());
    let start = Instant::now();
    let shape = Shape { length: 128, packing: Packing::Packed, ends: true };
    let corpus = Corpus::open(&data, &config, tokenizer.clone(), shape).expect("it can be read");
    let seconds = start.elapsed().as_secs_f64();
    let bytes: u64 = Split::ALL.iter().map(|&split| corpus.bytes(split)).sum();
    let tokens: u64 = Split::ALL.iter().map(|&split| corpus.tokens(split)).sum();
    println!(
        "opened {bytes} bytes, {tokens} tokens in {seconds:.2} s: {:.1} MB/s, {}",
        bytes as f64 / 1e6 / seconds,
        peak()
    );
    drop(corpus);
    let start = Instant::now();
    let corpus = Corpus::open(&data, &config, tokenizer, shape).expect("it can be read");
    println!(
        "second start {:.4} s; {}; {}",
        start.elapsed().as_secs_f64(),
        corpus.folder().display(),
        corpus.fingerprint()
    );
}
