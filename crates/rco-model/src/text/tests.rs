//! Division and windows.

use std::collections::HashSet;

use super::{Corpus, Side, TextError, TextSettings, Tokenise};
use crate::error::ModelError;

/// One token for each character.
struct Letters(Option<u32>);

impl Tokenise for Letters {
    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn bos(&self) -> Option<u32> {
        self.0
    }
}

fn text(word: &str) -> String {
    let documents: Vec<_> = (0..200).map(|i| format!("{word} {i}.\n\nEnd of {i}.")).collect();
    documents.join("\n\n\n")
}

fn corpus(seed: u64) -> Corpus {
    let settings = TextSettings { seed, held_out: 0.25, window: 16 };
    let mut corpus = Corpus::new(settings).unwrap();
    corpus.add_text("a", &text("apple")).unwrap();
    corpus.add_text("b", &text("berry")).unwrap();
    corpus
}

#[test]
fn no_document_is_on_both_sides() {
    let corpus = corpus(1);
    for domain in 0..2 {
        let calibration: HashSet<_> = corpus.documents(domain, Side::Calibration).iter().collect();
        let held_out: HashSet<_> = corpus.documents(domain, Side::HeldOut).iter().collect();
        assert!(calibration.is_disjoint(&held_out));
        assert_eq!(calibration.len() + held_out.len(), 200);
        assert!((45..=55).contains(&held_out.len()), "{}", held_out.len());
    }
}

#[test]
fn windows_take_turns_and_begin_with_what_the_model_expects() {
    let corpus = corpus(1);
    for bos in [None, Some(7)] {
        let windows = corpus.windows(&Letters(bos), Side::HeldOut, 9).unwrap();
        assert_eq!(
            windows.iter().map(|w| w.domain).collect::<Vec<_>>(),
            [0, 1, 0, 1, 0, 1, 0, 1, 0]
        );
        assert!(windows.iter().all(|w| w.tokens.len() == 16));
        // The windows of a domain are its documents, one after the other.
        let joined: String = windows
            .iter()
            .filter(|w| w.domain == 0)
            .flat_map(|w| w.tokens.iter().skip(usize::from(bos.is_some())))
            .filter_map(|&t| char::from_u32(t))
            .collect();
        let documents = corpus.documents(0, Side::HeldOut).join("\n\n");
        assert!(documents.starts_with(&joined));
        if let Some(bos) = bos {
            assert!(windows.iter().all(|w| w.tokens[0] == bos));
        }
        // Fewer windows are the first of more.
        assert_eq!(corpus.windows(&Letters(bos), Side::HeldOut, 4).unwrap(), windows[..4]);
    }
}

#[test]
fn the_seed_decides_everything() {
    let windows = |seed| corpus(seed).windows(&Letters(None), Side::Calibration, 20).unwrap();
    assert_eq!(windows(1), windows(1));
    assert_ne!(windows(1), windows(2));
}

#[test]
fn too_little_text_is_counted() {
    let error = corpus(1).windows(&Letters(None), Side::HeldOut, 1000).unwrap_err();
    let TextError::TooShort { file, split, found, needed } = error else { panic!("{error}") };
    assert_eq!((file.as_str(), split, needed), ("a", "held-out", 8000));
    assert!(found > 500 && found < needed);
    let mut single = Corpus::new(TextSettings::default()).unwrap();
    single.add_text("one line", "nothing to divide").unwrap();
    let error = single.windows(&Letters(None), Side::HeldOut, 1).unwrap_err().to_string();
    assert!(error.contains("0 tokens of held-out text found, 512 needed"), "{error}");
}

#[test]
fn as_many_windows_as_there_is_text_for_are_those_that_more_text_begins_with() {
    let mut corpus = corpus(1);
    corpus.add_text("c", &text("cherry pie")).unwrap();
    let between =
        |least, most| corpus.windows_between(&Letters(Some(7)), Side::HeldOut, least, most);
    let all = between(3, 100_000).unwrap();
    assert!(all.len() > 100);
    // Not one more is to be had, and asking for that many gives the same.
    assert!(between(all.len() + 1, all.len() + 1).is_err());
    assert_eq!(corpus.windows(&Letters(Some(7)), Side::HeldOut, all.len()).unwrap(), all);
    assert_eq!(between(3, 10).unwrap(), all[..10]);
    let error = between(all.len() + 3, 100_000).unwrap_err();
    assert!(matches!(error, TextError::TooShort { .. }), "{error}");
}

#[test]
fn files_that_are_no_text_are_refused_by_name_and_byte() {
    let folder = std::env::temp_dir().join(format!("rco-text-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("latin1.txt");
    std::fs::write(&path, b"abc \xe9 def").unwrap();
    let mut corpus = Corpus::new(TextSettings::default()).unwrap();
    let error = corpus.add_file(&path).unwrap_err();
    assert!(matches!(error, TextError::NotUtf8 { byte: 4, .. }), "{error}");
    assert!(error.to_string().contains("latin1.txt"), "{error}");
    std::fs::write(&path, b" \n\n").unwrap();
    assert!(matches!(corpus.add_file(&path), Err(TextError::Empty { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(corpus.add_file(&path), Err(TextError::Read { .. })));
    assert!(corpus.windows(&Letters(None), Side::HeldOut, 1).is_err());
}

#[test]
fn settings_are_checked() {
    for (held_out, window) in [(0.0, 16), (1.0, 16), (f64::NAN, 16), (0.5, 1)] {
        let settings = TextSettings { seed: 0, held_out, window };
        assert!(matches!(Corpus::new(settings), Err(TextError::BadSetting { .. })));
    }
}
