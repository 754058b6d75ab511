//! What can be fetched: addresses, sizes and checksums, as far as they are published.
//!
//! A size or checksum stands here only with the page or file that publishes it (`published_in`): one that somebody
//! remembers is none. A file without one is asked about at its first download, and pinned ([`super::pins`]).

/// A data set as its authors publish it.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// As typed: `mixarena data fetch imdb`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Tasks that read it.
    pub tasks: &'static [&'static str],
    /// Who made it, and on what terms it may be used.
    pub licence: &'static str,
    /// What to download.
    pub files: &'static [RemoteFile],
    /// Where the set may lie besides, as tasks look for it: below the data folder, a `*` allowed in the last part.
    pub places: &'static [&'static str],
}

/// One file of a set.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its address.
    pub url: &'static str,
    /// Its path below the data folder.
    pub target: &'static str,
    /// Its exact size, where published.
    pub bytes: Option<u64>,
    /// About its size, to look for room on the disk.
    pub about_bytes: u64,
    /// Its checksum, where published.
    pub checksum: Option<Checksum>,
    /// Where its size and checksum are published; `None` where neither is.
    pub published_in: Option<&'static str>,
}

/// A published checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// MD5, as hex.
    Md5(&'static str),
    /// SHA-256, as hex.
    Sha256(&'static str),
}

impl Checksum {
    /// `md5` or `sha256`.
    pub const fn algorithm(self) -> &'static str {
        match self {
            Self::Md5(_) => "md5",
            Self::Sha256(_) => "sha256",
        }
    }

    /// The sum.
    pub const fn hex(self) -> &'static str {
        match self {
            Self::Md5(hex) | Self::Sha256(hex) => hex,
        }
    }
}

impl RemoteFile {
    const fn unpublished(url: &'static str, target: &'static str, about_bytes: u64) -> Self {
        Self { url, target, bytes: None, about_bytes, checksum: None, published_in: None }
    }

    /// With size and SHA-256 as `source` has them.
    const fn pinned(
        url: &'static str,
        target: &'static str,
        bytes: u64,
        sha256: &'static str,
        source: &'static str,
    ) -> Self {
        let checksum = Some(Checksum::Sha256(sha256));
        Self { url, target, bytes: Some(bytes), about_bytes: bytes, checksum, published_in: Some(source) }
    }

    /// The last part of its target.
    pub fn name(&self) -> &'static str {
        self.target.rsplit('/').next().unwrap_or(self.target)
    }
}

/// Every set there is an address for.
pub const SETS: &[DataSet] =
    &[LISTOPS, LRA, AAN, IMDB, CIFAR10, GLUE, WIKITEXT2, WIKITEXT103, TINYSTORIES, TINYSHAKESPEARE];

const LISTOPS: DataSet = DataSet {
    name: "listops",
    about: "ListOps of Long Range Arena, the three files alone",
    tasks: &["listops"],
    licence: "Tay et al. 2021 (Long Range Arena), after Nangia and Bowman 2018; Apache-2.0 project",
    files: &[
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_train.tsv",
            "listops-1000/basic_train.tsv",
            800_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_val.tsv",
            "listops-1000/basic_val.tsv",
            20_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_test.tsv",
            "listops-1000/basic_test.tsv",
            20_000_000,
        ),
    ],
    places: &[
        "lra_release/listops-1000",
        "lra_release/lra_release/listops-1000",
        "listops/*.tar.gz",
        "listops*.tar.gz",
    ],
};

const LRA: DataSet = DataSet {
    name: "lra",
    about: "the Long Range Arena release: ListOps, AAN pairs with texts, Pathfinder 32 to 256 (7.7 GB)",
    tasks: &["listops", "retrieval", "pathfinder"],
    licence: "Tay et al. 2021; each part keeps its own terms, AAN texts may not be passed on",
    files: &[RemoteFile::unpublished(
        "https://storage.googleapis.com/long-range-arena/lra_release.gz",
        "lra_release.tar.gz", // its name at the server hides that it is a tar
        7_700_000_000,
    )],
    places: &["lra_release", "lra_release*.tar.gz"],
};

const AAN: DataSet = DataSet {
    name: "aan",
    about: "AAN pair ids of Long Range Arena, without the papers' texts",
    tasks: &["retrieval"],
    licence: "Radev et al. 2013 (ACL Anthology Network); the texts are not included and may not be passed on",
    files: &[
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.train.only_ids.tsv",
            "aan/new_aan_pairs.train.only_ids.tsv",
            5_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.eval.only_ids.tsv",
            "aan/new_aan_pairs.eval.only_ids.tsv",
            1_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.test.only_ids.tsv",
            "aan/new_aan_pairs.test.only_ids.tsv",
            1_000_000,
        ),
    ],
    places: &[],
};

const IMDB: DataSet = DataSet {
    name: "imdb",
    about: "Large Movie Review Dataset v1.0: 50,000 labelled film reviews",
    tasks: &["text"],
    licence: "Maas et al. 2011; research use, cite the paper",
    files: &[RemoteFile::pinned(
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        "aclImdb_v1.tar.gz",
        84_125_825,
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        "tensorflow/datasets, tensorflow_datasets/datasets/imdb_reviews/checksums.tsv (commit 90b6623)",
    )],
    places: &["aclImdb", "imdb/aclImdb", "aclImdb*.tar.gz", "imdb/*.tar.gz"],
};

const CIFAR10: DataSet = DataSet {
    name: "cifar10",
    about: "CIFAR-10, binary version: 60,000 colour pictures of 32 x 32",
    tasks: &["image"],
    licence: "Krizhevsky 2009; no terms stated, cite the report",
    files: &[RemoteFile {
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        target: "cifar-10-binary.tar.gz",
        bytes: None,
        about_bytes: 170_000_000,
        checksum: Some(Checksum::Md5("c32a1d4ab5d03f1284b67883e8d87530")),
        published_in: Some("https://www.cs.toronto.edu/~kriz/cifar.html, its table of downloads"),
    }],
    places: &["cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar-10-binary*.tar.gz", "cifar10/*.tar.gz"],
};

const GLUE_SUMS: &str = "huggingface/datasets, datasets/glue/dataset_infos.json (commit 040102f)";
const WIKITEXT_SUMS: &str = "huggingface/datasets, datasets/wikitext/dataset_infos.json (commit 040102f)";

const GLUE: DataSet = DataSet {
    name: "glue",
    about: "GLUE: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI (376 MB); zips are read as they are",
    tasks: &["glue"],
    licence: "Wang et al. 2019; each part keeps its own terms, cite its paper too",
    files: &[
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/CoLA.zip",
            "glue/CoLA.zip",
            376_971,
            "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",
            "glue/SST-2.zip",
            7_439_277,
            "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_train.txt",
            "glue/MRPC/msr_paraphrase_train.txt",
            1_047_044,
            "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_test.txt",
            "glue/MRPC/msr_paraphrase_test.txt",
            441_275,
            "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/mrpc_dev_ids.tsv",
            "glue/MRPC/mrpc_dev_ids.tsv",
            6_222,
            "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/STS-B.zip",
            "glue/STS-B.zip",
            802_872,
            "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/QQP-clean.zip",
            "glue/QQP-clean.zip",
            41_696_084,
            "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/MNLI.zip",
            "glue/MNLI.zip",
            312_783_507,
            "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/QNLIv2.zip",
            "glue/QNLIv2.zip",
            10_627_589,
            "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/RTE.zip",
            "glue/RTE.zip",
            697_150,
            "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee",
            GLUE_SUMS,
        ),
        RemoteFile::pinned(
            "https://dl.fbaipublicfiles.com/glue/data/WNLI.zip",
            "glue/WNLI.zip",
            28_999,
            "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46",
            GLUE_SUMS,
        ),
    ],
    places: &[
        "glue/CoLA",
        "glue/SST-2",
        "glue/MRPC",
        "glue/STS-B",
        "glue/QQP",
        "glue/MNLI",
        "glue/QNLI",
        "glue/RTE",
        "glue/WNLI",
    ],
};

const WIKITEXT2: DataSet = DataSet {
    name: "wikitext2",
    about: "WikiText-2 raw; --unpack gives `path: wikitext-2-raw`; server retired, mirrored as Salesforce/wikitext",
    tasks: &["mlm", "clm"],
    licence: "Merity et al. 2016; CC BY-SA 3.0",
    files: &[RemoteFile::pinned(
        "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-raw-v1.zip",
        "wikitext-2-raw-v1.zip",
        4_721_645,
        "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        WIKITEXT_SUMS,
    )],
    places: &["wikitext2", "wikitext-2-raw"],
};

const WIKITEXT103: DataSet = DataSet {
    name: "wikitext103",
    about: "WikiText-103 raw; --unpack gives `path: wikitext-103-raw`; server retired, mirrored as Salesforce/wikitext",
    tasks: &["mlm", "clm"],
    licence: "Merity et al. 2016; CC BY-SA 3.0",
    files: &[RemoteFile::pinned(
        "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-103-raw-v1.zip",
        "wikitext-103-raw-v1.zip",
        191_984_949,
        "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
        WIKITEXT_SUMS,
    )],
    places: &["wikitext103", "wikitext-103-raw"],
};

const TINYSTORIES: DataSet = DataSet {
    name: "tinystories",
    about: "TinyStories, version 2: stories of small children's words, written by GPT-4 (2.2 GB)",
    tasks: &["mlm", "clm"],
    licence: "Eldan and Li 2023; CDLA-Sharing-1.0",
    files: &[
        RemoteFile::unpublished(
            "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
            "tinystories/TinyStoriesV2-GPT4-train.txt",
            2_230_000_000,
        ),
        RemoteFile::unpublished(
            "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",
            "tinystories/TinyStoriesV2-GPT4-valid.txt",
            23_000_000,
        ),
    ],
    places: &["tinystories"],
};

const TINYSHAKESPEARE: DataSet = DataSet {
    name: "tinyshakespeare",
    about: "Tiny Shakespeare: 1.1 MB of plays in one file",
    tasks: &["mlm", "clm"],
    licence: "public domain text; the selection is of karpathy/char-rnn",
    files: &[RemoteFile::pinned(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "tinyshakespeare/input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "karpathy/char-rnn, the file itself (measured on a copy)",
    )],
    places: &["tinyshakespeare"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::{Component, Path};

    #[test]
    fn names_are_distinct_and_targets_stay_in_the_data_folder() {
        let names: HashSet<&str> = SETS.iter().map(|set| set.name).collect();
        assert_eq!(names.len(), SETS.len());
        let files: Vec<&RemoteFile> = SETS.iter().flat_map(|set| set.files).collect();
        let targets: HashSet<&str> = files.iter().map(|file| file.target).collect();
        assert_eq!(targets.len(), files.len());
        for file in files {
            assert!(Path::new(file.target).components().all(|part| matches!(part, Component::Normal(_))));
            assert!(file.url.starts_with("https://"), "{}", file.url);
        }
    }

    #[test]
    fn a_size_or_a_checksum_names_where_it_is_published_and_is_from_nobodys_memory() {
        for file in SETS.iter().flat_map(|set| set.files) {
            let known = file.bytes.is_some() || file.checksum.is_some();
            assert_eq!(known, file.published_in.is_some(), "{}", file.target);
            let source = file.published_in.unwrap_or("/");
            assert!(source.contains('/') && !source.contains("recalled"), "{}: {source}", file.target);
            assert!(file.bytes.is_none() || file.checksum.is_some(), "{}: a size alone proves little", file.target);
        }
        let of = |name: &str| SETS.iter().find(|set| set.name == name).expect("there").files[0];
        assert_eq!(of("cifar10").checksum.map(Checksum::hex), Some("c32a1d4ab5d03f1284b67883e8d87530"));
        assert_eq!(of("imdb").bytes, Some(84_125_825));
    }

    #[test]
    fn checksums_have_the_length_of_their_algorithm() {
        for file in SETS.iter().flat_map(|set| set.files) {
            let Some(sum) = file.checksum else { continue };
            let length = if sum.algorithm() == "md5" { 32 } else { 64 };
            assert!(sum.hex().len() == length && sum.hex().chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        }
    }
}
