//! Data that are missing or broken are named before anything is trained.

use results::Outcome;
use tests::Folder;

const LISTOPS: &str = "\
tasks:
  - listops: { source: files, l_max: 32 }
model: { d_model: 16, n_layers: 1 }
budget: { steps: 10, batch_size: 4, eval_every: 5 }
mixers:
  - attention: { n_heads: 2 }
";

const TEXT: &str = "\
tasks:
  - text: { max_length: 32, val_fraction: 0.25 }
model: { d_model: 16, n_layers: 1 }
budget: { steps: 10, batch_size: 4, eval_every: 5 }
mixers:
  - attention: { n_heads: 2 }
";

/// Three right rows.
const ROWS: &str = "Source\tTarget\n( ( ( [MAX 2 ) 3 ) ] )\t3\n[MIN 4 [SM 5 6 ] ]\t1\n[MED 1 2 7 ]\t2\n";

fn with_listops() -> Folder {
    let folder = Folder::with("listops.yaml", LISTOPS);
    for part in ["train", "val", "test"] {
        folder.write(&format!("data/listops-1000/basic_{part}.tsv"), ROWS);
    }
    folder
}

fn with_reviews() -> Folder {
    let folder = Folder::with("text.yaml", TEXT);
    for (split, class, rating) in [("train", "pos", 9), ("train", "neg", 2), ("test", "pos", 7), ("test", "neg", 4)] {
        for id in 0..4 {
            folder
                .write(&format!("data/aclImdb/{split}/{class}/{id}_{rating}.txt"), format!("a {class} film, no. {id}"));
        }
    }
    folder
}

/// What the sweep says when it refuses its data; it must not have trained, nor left anything.
#[track_caller]
fn refused(folder: &Folder, config: &str) -> String {
    let ended = folder.run(&format!("sweep {config}")).expect(3);
    assert_eq!(ended.out, "");
    assert!(!folder.path("runs").exists(), "nothing is trained, no store is made");
    ended.err
}

#[test]
fn missing_listops_files_say_where_to_get_them_and_where_to_put_them() {
    let folder = Folder::with("listops.yaml", LISTOPS);
    insta::assert_snapshot!(refused(&folder, "listops.yaml"), @r#"
    error: ListOps files not found
      looked at data/listops-1000
      looked at data/lra_release/listops-1000
      looked at data/lra_release/lra_release/listops-1000
      looked at data/listops/listops-1000
      looked at data/listops/*.tar.gz
      looked at data/listops*.tar.gz
      fetch it with `mixarena data fetch listops`, or:
      download the three files:
        mkdir -p data/listops-1000
        for part in train val test; do curl -fL -o data/listops-1000/basic_$part.tsv https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_$part.tsv; done
      or name a folder or .tar.gz in `path`, or set `source: generate` to draw expressions of the same distribution
    nothing was run
    "#);
}

#[test]
fn missing_reviews_say_where_to_get_them_and_where_to_put_them() {
    let folder = Folder::with("text.yaml", TEXT);
    insta::assert_snapshot!(refused(&folder, "text.yaml --data elsewhere"), @r#"
    error: IMDB reviews not found
      looked at elsewhere/aclImdb
      looked at elsewhere/imdb/aclImdb
      looked at elsewhere/aclImdb*.tar.gz
      looked at elsewhere/imdb/*.tar.gz
      fetch it with `mixarena data fetch imdb`, or:
      download the Large Movie Review Dataset (84 MB; it need not be unpacked):
        mkdir -p elsewhere
        curl -fL -o elsewhere/aclImdb_v1.tar.gz https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz
      or name a folder or .tar.gz in `path`
    nothing was run
    "#);
}

#[test]
fn a_broken_row_is_named_by_file_and_row() {
    for (part, text, named) in [
        (
            "train",
            "Source\tTarget\n[MAX 2 3 ]\t3\n[MIN 4 [SM",
            "basic_train.tsv:3: no tab between expression and label",
        ),
        ("val", "Source\tTarget\n[MAX 2 3 ]\t12\n", "basic_val.tsv:2: the label is `12`, expected a digit from 0 to 9"),
        ("val", "Source\tTarget\n[MAX 2 3 ]\t2\n", "basic_val.tsv:2: the label is 2, but the expression's value is 3"),
        ("test", "Source\tTarget\n[MAX 2 3\t3\n", "basic_test.tsv:2: "),
        ("test", "Source\tTarget\n[MIX 2 3 ]\t3\n", "basic_test.tsv:2: token 1 is `[MIX`, which ListOps does not have"),
        ("test", "[MAX 2 3 ]\t3\n", "basic_test.tsv:1: expected the header"),
        ("train", "Source\tTarget\n", "basic_train.tsv: holds no rows"),
        ("train", "", "basic_train.tsv: holds no rows"),
    ] {
        let folder = with_listops();
        folder.write(&format!("data/listops-1000/basic_{part}.tsv"), text);
        let said = refused(&folder, "listops.yaml");
        assert!(said.starts_with(&format!("error: data/listops-1000/{named}")), "{text:?}:\n{said}");
        assert!(said.ends_with("nothing was run\n") && said.lines().count() == 3, "{said}");
    }
}

#[test]
fn a_broken_review_is_named_by_its_file() {
    for (file, text, problem) in [
        ("train/pos/1_9.txt", " \n", "the review is empty"),
        ("train/neg/7_8.txt", "fine", "a rating of 8 in `neg`, which holds 1 to 4"),
        ("test/pos/review.txt", "fine", "not a name of the form ID_RATING.txt"),
        ("test/pos/1_8.txt", "fine", "a second review 1 in test/pos"),
    ] {
        let folder = with_reviews();
        folder.write(&format!("data/aclImdb/{file}"), text);
        let said = refused(&folder, "text.yaml");
        assert!(said.contains(problem) && said.starts_with("error: data/aclImdb/"), "{said}");
        assert!(problem.starts_with("a second") || said.contains(file), "{said}");
    }
    let folder = with_reviews();
    std::fs::remove_dir_all(folder.path("data/aclImdb/test/neg")).expect("removes a folder");
    let said = refused(&folder, "text.yaml");
    assert!(said.starts_with("error: data/aclImdb: holds no reviews in test/neg"), "{said}");
}

#[test]
fn an_archive_that_is_none_is_named() {
    let folder = Folder::with("text.yaml", TEXT);
    folder.write("data/aclImdb_v1.tar.gz", "<html>404</html>");
    let said = refused(&folder, "text.yaml");
    assert!(said.starts_with("error: data/aclImdb_v1.tar.gz: is damaged"), "{said}");
    assert!(said.contains("download it again"), "{said}");
}

#[test]
fn an_archive_cut_short_or_empty_is_named_and_its_advice_is_not_doubled() {
    let folder = with_reviews();
    let mut tar = std::process::Command::new("tar");
    tar.args(["czf", "whole", "-C", "data", "aclImdb"]).current_dir(folder.path(""));
    assert!(tar.status().expect("tar is there").success());
    std::fs::remove_dir_all(folder.path("data/aclImdb")).expect("removes a folder");
    let whole = folder.read("whole");
    for (content, said) in [
        (&whole[..whole.len() / 2], "ends early"),
        (&whole[..whole.len() - 5], "ends early"),
        (&[], "is empty (0 bytes)"),
    ] {
        folder.write("data/aclImdb_v1.tar.gz", content);
        let said_too = refused(&folder, "text.yaml");
        assert!(said_too.starts_with("error: data/aclImdb_v1.tar.gz") && said_too.contains(said), "{said_too}");
        assert!(said_too.ends_with("; download it again\nnothing was run\n"), "{said_too}");
    }
}

#[test]
fn an_archive_is_read_whatever_its_name_says() {
    let folder = with_reviews();
    let mut tar = std::process::Command::new("tar");
    tar.args(["czf", "data/reviews.gz", "-C", "data", "aclImdb"]).current_dir(folder.path(""));
    assert!(tar.status().expect("tar is there").success());
    let loose = folder.run("data verify text --set val_fraction=0.25 --json").expect(0).out;
    let packed = folder.run("data verify text --set val_fraction=0.25 --set path=reviews.gz --json").expect(0).out;
    let contents = |json: &str| json.lines().find(|line| line.contains("fingerprint")).map(str::to_owned);
    assert!(
        contents(&loose).is_some_and(|line| line.contains('"')) && contents(&loose) == contents(&packed),
        "{packed}"
    );
}

#[test]
fn official_files_train_to_the_end() {
    for (folder, config) in [(with_listops(), "listops.yaml"), (with_reviews(), "text.yaml")] {
        folder.run(&format!("sweep {config} -q")).expect(0);
        let record = folder.record();
        assert_eq!((&record.outcome, record.steps), (&Outcome::Finished, 10));
        assert!(record.notes.iter().any(|note| note.contains("read from")), "{:?}", record.notes);
    }
}

#[test]
fn other_data_under_the_same_config_are_another_run() {
    let folder = with_listops();
    let before = folder.run("sweep listops.yaml -n").expect(0);
    folder.write("data/listops-1000/basic_val.tsv", "Source\tTarget\n[MAX 2 3 ]\t3\n");
    let after = folder.run("sweep listops.yaml -n").expect(0);
    assert_ne!(before.out, after.out);
}

#[test]
fn a_plan_counts_what_it_can_without_the_data() {
    let folder = Folder::with("text.yaml", TEXT);
    let plan = folder.run("plan text.yaml").expect(0);
    let said = "data missing, counted with the vocabulary and sizes of the official data: text: IMDB reviews not found";
    assert!(plan.out.contains(said), "{}", plan.out);
    folder.run("plan text.yaml --print-config").expect(3);
}
