use proptest::prelude::*;

use super::{get, line, set};

fn edited(text: &str, path: &str, value: &str) -> String {
    let path: Vec<&str> = path.split('.').collect();
    match set(text, &path, value) {
        Ok(edited) => edited,
        Err(error) => panic!("{error}\n{text}"),
    }
}

#[test]
fn a_value_keeps_its_quotes_and_everything_around_it() {
    for (before, after) in [
        ("a: \"1\"", "a: \"2.0\""),
        ("a: '1'   # one\n", "a: '2.0'   # one\n"),
        ("a: 1 # one\n", "a: \"2.0\" # one\n"),
        ("a: ~\n", "a: \"2.0\"\n"),
        ("a:\n", "a: \"2.0\"\n"),
        ("a:   # nothing yet\nb: 1\n", "a: \"2.0\"   # nothing yet\nb: 1\n"),
        ("{a: 1, b: 2}\n", "{a: \"2.0\", b: 2}\n"),
        ("\"a\": &x 1\nb: *x\n", "\"a\": &x \"2.0\"\nb: *x\n"),
        ("a: !!str 1\n", "a: !!str \"2.0\"\n"),
        (
            "\u{feff}# BOM\r\na: \"1\"\r\nb: 1\r\n",
            "\u{feff}# BOM\r\na: \"2.0\"\r\nb: 1\r\n",
        ),
        ("# é\n---\nb: é\na: \"1\"\n...\n", "# é\n---\nb: é\na: \"2.0\"\n...\n"),
    ] {
        assert_eq!(edited(before, "a", "2.0"), after);
    }
}

#[test]
fn a_word_stays_without_quotes_and_a_number_does_not() {
    assert_eq!(edited("a: v1\n", "a", "v1.2-rc.1"), "a: v1.2-rc.1\n");
    for value in [
        "1.10",
        "1e3",
        "0x1F",
        "1_000",
        "on",
        "No",
        "null",
        "2024-01-01",
        "_x",
        "",
    ] {
        assert_eq!(edited("a: v1\n", "a", value), format!("a: \"{value}\"\n"));
        // A number as it stands is read as one, so it is not yet what was asked for.
        let plain = format!("a: {value}\n");
        assert_eq!(edited(&plain, "a", value).trim_end(), format!("a: \"{value}\""));
    }
}

#[test]
fn missing_keys_are_added_behind_their_siblings() {
    for (before, after) in [
        ("", "a:\n  b:\n    c: \"v\"\n"),
        ("# only this\n", "# only this\na:\n  b:\n    c: \"v\"\n"),
        ("x: 1\n\n# end\n", "x: 1\na:\n  b:\n    c: \"v\"\n\n# end\n"),
        ("x: 1", "x: 1\na:\n  b:\n    c: \"v\""),
        (
            "a:\n    x: 1   # one\ny: 2\n",
            "a:\n    x: 1   # one\n    b:\n      c: \"v\"\ny: 2\n",
        ),
        (
            "a:\r\n  b:\r\n    x: 1\r\n",
            "a:\r\n  b:\r\n    x: 1\r\n    c: \"v\"\r\n",
        ),
        ("a: {x: 1}\n", "a: {x: 1, b: {c: \"v\"}}\n"),
        ("a: { x: 1, }\n", "a: { x: 1, b: {c: \"v\"}, }\n"),
        ("a: {}\n", "a: {b: {c: \"v\"}}\n"),
        ("a:\n  b: {}\n", "a:\n  b: {c: \"v\"}\n"),
        // The empty line belongs to the text.
        (
            "a:\n  x: |\n    text\n\ny: 1\n",
            "a:\n  x: |\n    text\n\n  b:\n    c: \"v\"\ny: 1\n",
        ),
        (
            "a:\n  x:\n    - 1\n    - {z: 2}\n",
            "a:\n  x:\n    - 1\n    - {z: 2}\n  b:\n    c: \"v\"\n",
        ),
        ("a:   # nothing\n", "a:   # nothing\n  b:\n    c: \"v\"\n"),
        ("a:\n  b:\n", "a:\n  b:\n    c: \"v\"\n"),
        ("a:\n  x:\ny: 1\n", "a:\n  x:\n  b:\n    c: \"v\"\ny: 1\n"),
    ] {
        assert_eq!(edited(before, "a.b.c", "v"), after, "{before:?}");
    }
}

#[test]
fn what_is_not_one_value_is_refused_with_its_place() {
    for (text, message, at) in [
        ("a: [1]\n", "a is a list, where one value belongs", "[1]"),
        ("a: {b: 1}\n", "a is a mapping, where one value belongs", "{b: 1}"),
        ("x: &x 1\na: *x\n", "a is an alias, where one value belongs", "*x"),
        ("a: 1\na: 2\n", "a is set twice", "a"),
        ("a: 1\n---\na: 2\n", "the file holds more than one document", "---"),
    ] {
        let error = set(text, &["a"], "v").unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.span.map(|s| &text[s])),
            (message, Some(at))
        );
        assert!(get(text, &["a"]).is_err(), "{text}");
    }
    assert_eq!(
        set("a: |\n  text\n", &["a"], "v").unwrap_err().message,
        "a is a block of text, where one value belongs"
    );
    assert_eq!(
        set("a: ~\n", &["a", "b"], "v").unwrap_err().message,
        "a is a value, where settings belong"
    );
    let error = set("a: {b: }\n", &["a", "b", "c"], "v").unwrap_err().message;
    assert_eq!(error, "a.b.c is empty in a way that cannot be filled in");
    for broken in [
        "a: \"1\n",
        "a: [1\n",
        "<<<<<<< ours\na: 1\n=======\na: 2\n>>>>>>> theirs\n",
        "a: b: c\n",
    ] {
        let error = set(broken, &["a"], "v").unwrap_err().message;
        assert!(
            error.starts_with("this is not YAML that can be read: "),
            "{broken}: {error}"
        );
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(
        get(&deep, &["a"]).unwrap_err().message,
        "the file is nested deeper than 64 levels"
    );
}

#[test]
fn what_is_not_there_is_nothing() {
    for text in ["", "# x\n", "b: 1\n", "a:\n", "a: null\n", "- a\n"] {
        assert_eq!(get(text, &["a"]), Ok(None), "{text:?}");
    }
    let text = "x: 1\na:\n  b: 'it''s'\n";
    let found = get(text, &["a", "b"]).unwrap().unwrap();
    assert_eq!((found.value.as_str(), &text[found.span.clone()]), ("it's", "'it''s'"));
    assert_eq!(line(text, found.span.start), 3);
}

/// A value as somebody may write it, with what it says.
fn written() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,8}",
        "[0-9.]{1,6}",
        "\"[ -!#-\\[\\]-~é]{0,10}\"",
        "'[ -&(-~é]{0,10}'",
    ]
}

/// Files with `image.tag` somewhere among other things.
fn file() -> impl Strategy<Value = String> {
    let other = "(# [ -~é]{0,12}|x[a-z]{0,3}[0-9]: [0-9]{1,3}( # [ -~]{0,8})?|)";
    let break_ = prop_oneof![Just("\n"), Just("\r\n")];
    (
        proptest::collection::vec(other, 0..4),
        proptest::collection::vec(other, 0..4),
        written(),
        proptest::option::of(" +# [ -~é]{0,10}"),
        0..4_usize,
        break_,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(above, below, value, comment, indent, line_break, flow, last)| {
            let indent = " ".repeat(indent + 1);
            let comment = comment.unwrap_or_default();
            let mut lines: Vec<String> = Vec::new();
            // A key may stand once only.
            lines.extend(
                above
                    .iter()
                    .enumerate()
                    .map(|(i, l)| l.replacen('x', &format!("above{i}"), 1)),
            );
            if flow {
                lines.push(format!("image: {{ first: 1, tag: {value}, last: 2 }}{comment}"));
            } else {
                lines.push("image:".into());
                lines.push(format!("{indent}first: 1"));
                lines.push(format!("{indent}tag: {value}{comment}"));
                lines.push(format!("{indent}# between"));
            }
            lines.extend(
                below
                    .iter()
                    .enumerate()
                    .map(|(i, l)| l.replacen('x', &format!("below{i}"), 1)),
            );
            let end = if last { line_break } else { "" };
            format!("{}{end}", lines.join(line_break))
        })
}

proptest! {
    #[test]
    fn only_the_bytes_of_the_value_change_and_it_is_read_back(text in file(), value in "\\PC{0,20}") {
        let path = ["image", "tag"];
        let before = get(&text, &path).unwrap().unwrap();
        let after = set(&text, &path, &value).unwrap();
        let found = get(&after, &path).unwrap();
        prop_assert_eq!(found.as_ref().map(|f| f.value.as_str()), Some(value.as_str()));
        prop_assert_eq!(&text[..before.span.start], &after[..before.span.start]);
        let tail = &text[before.span.end..];
        prop_assert!(after.ends_with(tail));
        let written = &after[before.span.start..after.len() - tail.len()];
        prop_assert_eq!(written, &after[found.map(|f| f.span).unwrap()]);
        // A second time there is nothing to do.
        prop_assert_eq!(set(&after, &path, &value).unwrap(), after);
    }

    #[test]
    fn what_is_added_takes_nothing_away(text in file(), value in "\\PC{0,20}") {
        let path = ["image", "more", "tag"];
        let after = set(&text, &path, &value).unwrap();
        prop_assert_eq!(get(&after, &path).unwrap().map(|f| f.value), Some(value));
        let mut lines = after.split_inclusive('\n');
        for line in text.split_inclusive('\n').filter(|l| !l.contains("image:")) {
            let line = line.trim_end_matches(['\r', '\n']);
            prop_assert!(lines.any(|l| l.trim_end_matches(['\r', '\n']) == line), "{:?} is gone", line);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(a|b|image|tag|:|-|\\{|\\}|\\[|\\]|\"|'|#|&x|\\*x|!t| |\n|\r\n|\\||>|~|é|,|\\?|%|@){0,30}", value in "\\PC{0,5}") {
        if let Ok(after) = set(&text, &["image", "tag"], &value) {
            prop_assert_eq!(get(&after, &["image", "tag"]).unwrap().map(|f| f.value), Some(value));
        }
    }
}
