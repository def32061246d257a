use super::*;
use crate::config::mapping_of;
use crate::exposition::{Encoder, Format};

/// The exposition of a document by the metrics of a YAML list, without the lines of comment.
fn apply(metrics: &str, document: &str) -> Result<String, ExtractError> {
    apply_with(metrics, document, "", 1000)
}

fn apply_with(metrics: &str, document: &str, labels: &str, limit: usize) -> Result<String, ExtractError> {
    let mapping = mapping_of(metrics).unwrap();
    let batch = mapping.apply(document.as_bytes(), labels, up_to(limit))?;
    let mut encoder = Encoder::new(Format::Text, 0);
    for (index, family) in mapping.families().iter().enumerate() {
        encoder.batch(family, index, &batch);
    }
    Ok(encoder.finish())
}

/// So many samples.
fn up_to(samples: usize) -> Bounds {
    Bounds {
        samples,
        labels: 1 << 20,
    }
}

fn error(metrics: &str, document: &str) -> String {
    apply(metrics, document).unwrap_err().to_string()
}

#[test]
fn nested_fields_and_indexes_are_found() {
    let metrics = r"
        - {name: a, value: $.x.y}
        - {name: b, value: '$.list[1]'}
        - {name: c, value: '$[''with space''][0].z'}
    ";
    let document = r#"{"list": [1, 2.5, 3], "with space": [{"z": -3}], "x": {"w": {"y": 9}, "y": 7}, "y": 8}"#;
    assert_eq!(apply(metrics, document).unwrap(), "a 7\nb 2.5\nc -3\n");
}

#[test]
fn each_element_is_a_sample_with_labels_of_its_own() {
    let metrics = r#"
        - name: items
          each: $.values[*]
          value: '@.count'
          labels: {id: '{@.id}', place: 'planet-{$.location}', fixed: 'x"y', position: '{@~}'}
    "#;
    let document = r#"{"values": [{"id": "a", "count": 1}, {"count": 2, "id": "b"}], "location": "mars"}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "items{fixed=\"x\\\"y\",id=\"a\",place=\"planet-mars\",position=\"0\"} 1\n\
         items{fixed=\"x\\\"y\",id=\"b\",place=\"planet-mars\",position=\"1\"} 2\n"
    );
}

#[test]
fn the_names_of_an_objects_members_become_labels() {
    // json_exporter issues 96, 197, 250, 309
    let metrics = r"
        - name: processes
          each: $.applications.*
          value: '@.processes.running'
          labels: {application: '{@~}'}
    ";
    let document =
        r#"{"applications": {"site1.com": {"processes": {"running": 1}}, "site2.com": {"processes": {"running": 3}}}}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "processes{application=\"site1.com\"} 1\nprocesses{application=\"site2.com\"} 3\n"
    );
}

#[test]
fn inner_elements_see_those_around_them_even_where_these_come_later() {
    let metrics = r"
        - name: load
          each: $.clusters[*].nodes.*
          value: '@'
          labels: {node: '{@~}', cluster: '{^.name}', nth: '{^~}', region: '{^^.region}'}
    ";
    let document = r#"{"clusters": [{"nodes": {"n1": 1, "n2": 2}, "name": "east"}, {"nodes": {"n1": 3}, "name": "west"}], "region": "eu"}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "load{cluster=\"east\",node=\"n1\",nth=\"0\",region=\"eu\"} 1\n\
         load{cluster=\"east\",node=\"n2\",nth=\"0\",region=\"eu\"} 2\n\
         load{cluster=\"west\",node=\"n1\",nth=\"1\",region=\"eu\"} 3\n"
    );
}

#[test]
fn filters_choose_elements_whatever_the_order_of_their_members() {
    let metrics = r"
        - {name: active, each: '$[?@.state == ''ACTIVE'']', value: '@.n', labels: {i: '{@~}'}}
        - {name: many, each: '$[?@.n >= 2 && @.state != ''ACTIVE'']', value: '@.n', labels: {i: '{@~}'}}
        - {name: odd, each: '$[?@.odd]', value: 1, labels: {i: '{@~}'}}
    ";
    let document = r#"[{"n": 1, "state": "ACTIVE"}, {"state": "OFF", "n": 2}, {"n": 3, "odd": null}, {"state": "ACTIVE", "n": 4}]"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "active{i=\"0\"} 1\nactive{i=\"3\"} 4\nmany{i=\"1\"} 2\nmany{i=\"2\"} 3\nodd{i=\"2\"} 1\n"
    );
}

#[test]
fn a_filter_inside_an_element_takes_the_first_match() {
    // json_exporter issue 64
    let metrics = r"
        - name: online
          each: $[*]
          value: '@.online'
          labels:
            machine: '{@.name}'
            customer: '{@.properties[?(@.key == ''customer'')].value}'
    ";
    let document = r#"[
        {"name": "m1", "online": true, "properties": [{"key": "site", "value": "321"}, {"value": "Green", "key": "customer"}]},
        {"name": "m2", "online": false, "properties": []}
    ]"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "online{customer=\"Green\",machine=\"m1\"} 1\nonline{customer=\"\",machine=\"m2\"} 0\n"
    );
}

#[test]
fn a_place_may_be_read_by_name_and_by_iteration() {
    let metrics = r"
        - {name: first, value: '$.a[0].v'}
        - {name: all, each: '$.a[*]', value: '@.v', labels: {i: '{@~}'}}
        - {name: total, value: '$.apps.total'}
        - {name: app, each: '$.apps.*', value: '@', labels: {app: '{@~}'}}
    ";
    assert_eq!(
        apply(metrics, r#"{"a": [{"v": 1}, {"v": 2}], "apps": {"x": 3, "total": 4}}"#).unwrap(),
        "first 1\nall{i=\"0\"} 1\nall{i=\"1\"} 2\ntotal 4\napp{app=\"x\"} 3\napp{app=\"total\"} 4\n"
    );
}

#[test]
fn elements_may_lie_below_the_iteration() {
    let metrics = r"
        - {name: v, each: '$.a[*].b.c', value: '@.d', labels: {i: '{@~}', e: '{@.e}'}}
    ";
    let document = r#"{"a": [{"b": {"c": {"d": 1, "e": "x"}}}, {"b": {"c": {"e": "y", "d": 2}}}]}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "v{e=\"x\",i=\"0\"} 1\nv{e=\"y\",i=\"1\"} 2\n"
    );
}

#[test]
fn whole_documents_may_be_arrays_or_single_values() {
    assert_eq!(apply("[{name: v, value: '$'}]", "42").unwrap(), "v 42\n");
    assert_eq!(apply("[{name: v, value: '$[1][0]'}]", "[[1], [2]]").unwrap(), "v 2\n");
    assert_eq!(apply("[{name: v, value: '$'}]", "\u{feff}42").unwrap(), "v 42\n");
}

#[test]
fn booleans_texts_and_units_become_numbers() {
    // json_exporter issues 76, 172, 240
    let metrics = r"
        - {name: a, value: $.yes}
        - {name: b, value: $.number}
        - {name: c, value: $.status, map: {OK: 1, FAIL: 0}}
        - {name: d, value: $.memory, pattern: '^(\d+) MB$', scale: 1048576}
        - {name: e, value: $.absent, default: 0}
        - {name: f, value: $.nothing, default: -1}
        - {name: g, value: $.empty, optional: true}
        - {name: h, value: $.milliseconds, scale: 0.001}
        - {name: i, value: $.no, map: {'true': 5, 'false': 6}}
        - {name: j, value: 1, labels: {status: '{$.status}'}}
    ";
    let document = r#"{"yes": true, "no": false, "number": " 17.8 ", "status": "FAIL", "memory": "1000 MB", "nothing": null,
        "empty": "", "milliseconds": 1234}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "a 1\nb 17.8\nc 0\nd 1048576000\ne 0\nf -1\nh 1.234\ni 6\nj{status=\"FAIL\"} 1\n"
    );
}

#[test]
fn elements_are_counted() {
    // json_exporter issues 8, 118, 149
    let metrics = r"
        - {name: symbols, value: 'count($.symbols[*])'}
        - {name: down, value: 'count($.services[?@.status == ''DOWN''])'}
        - {name: tags, each: '$.services.*', value: 'count(@.tags[*])', labels: {service: '{@~}'}, default: 0}
        - {name: pairs, value: 'count( $.services.*.tags[*].id )'}
        - {name: absent, value: 'count($.absent[*])', optional: true}
        - {name: busy, value: 'count($.symbols[*])', map: {'2': 1, '0': 0}}
    ";
    let document = r#"{"symbols": ["a", "b"], "services": {
        "x": {"status": "UP", "tags": [{"id": 1}, {"id": 2}, {}]},
        "y": {"tags": [], "status": "DOWN"},
        "z": {"status": "DOWN", "tags": null}}}"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "symbols 2\ndown 2\ntags{service=\"x\"} 3\ntags{service=\"y\"} 0\ntags{service=\"z\"} 0\npairs 2\nbusy 1\n"
    );
    let one = "[{name: n, value: 'count($.a[*])'}]";
    assert_eq!(apply(one, r#"{"a": []}"#).unwrap(), "n 0\n");
    assert!(error(one, "{}").starts_with("n: nothing at count($.a[*])"));
    assert!(error(one, r#"{"a": 3}"#).contains("no elements to count"));
    assert_eq!(
        apply("[{name: n, value: 'count($[*])'}]", "[1, [2, 3]]").unwrap(),
        "n 2\n"
    );
}

#[test]
fn elements_may_be_counted_from_the_end() {
    let metrics = r"
        - {name: last, value: '$.points[-1][1]'}
        - {name: before, value: '$.points[-2][1]'}
        - {name: newest, each: '$.series.*[-1]', value: '@.v', labels: {series: '{^~}', at: '{@~}'}}
    ";
    let document =
        r#"{"points": [[1, 10], [2, 20], [3, 30]], "series": {"a": [{"v": 1}, {"v": 2}], "b": [{"v": 3}], "c": []}}"#;
    assert!(mapping_of("[{name: n, each: '$.a[-1]', value: '@'}]").is_err());
    assert_eq!(
        apply(metrics, document).unwrap(),
        "last 30\nbefore 20\nnewest{at=\"1\",series=\"a\"} 2\nnewest{at=\"0\",series=\"b\"} 3\n"
    );
    let one = "[{name: n, value: '$.a[-2]'}]";
    for document in [r#"{"a": [1]}"#, r#"{"a": []}"#, "{}", r#"{"a": {"x": 1, "y": 2}}"#] {
        assert!(error(one, document).contains("nothing at $.a[-2]"), "{document}");
    }
}

#[test]
fn elements_are_chosen_by_a_regular_expression() {
    // json_exporter issue 139
    let metrics = r#"
        - {name: v, each: '$[?@.value =~ "^-?[0-9.]+$"]', value: '@.value', labels: {name: '{@.name}'}}
    "#;
    let document = r#"[{"name": "users", "value": 16}, {"name": "version", "value": "4.x"}, {"name": "load", "value": "1.5"},
        {"name": "none"}, {"name": "null", "value": null}, {"name": "list", "value": [1]}]"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "v{name=\"users\"} 16\nv{name=\"load\"} 1.5\n"
    );
}

#[test]
fn dates_and_times_become_seconds() {
    // json_exporter issue 315
    let metrics = r"
        - {name: seen_seconds, each: '$[*]', value: '@.seen', time: true, labels: {user: '{@.user}'}}
        - {name: stamp_seconds, value: '$[0].text', pattern: 'at (.*Z)', time: true}
    ";
    let document = r#"[{"user": "a", "seen": "2024-06-29", "text": "at 2025-01-22T19:30:19Z."}, {"user": "b", "seen": 1700000000}]"#;
    assert_eq!(
        apply(metrics, document).unwrap(),
        "seen_seconds{user=\"a\"} 1719619200\nseen_seconds{user=\"b\"} 1700000000\nstamp_seconds 1737574219\n"
    );
    let wrong = error("[{name: v, value: $.v, time: true}]", r#"{"v": "29.06.2024"}"#);
    assert!(wrong.contains("\"29.06.2024\", which is no date or time"), "{wrong}");
}

#[test]
fn what_is_missing_or_wrong_is_told_with_metric_and_path() {
    let metrics = "[{name: m_total, type: counter, value: $.a.b}]";
    for document in [
        "{}",
        "[]",
        "3",
        r#"{"a": 1}"#,
        r#"{"a": {"b": null}}"#,
        r#"{"a": {"b": ""}}"#,
    ] {
        assert!(
            error(metrics, document).starts_with("m_total: nothing at $.a.b"),
            "{document}"
        );
    }
    for (value, problem) in [
        ("{}", "an object or array"),
        ("[]", "an object or array"),
        (r#""many""#, "the text \"many\""),
        (r#""NaN""#, "the text \"NaN\""),
        (r#""inf""#, "the text \"inf\""),
        (r#""1e999""#, "the text \"1e999\""),
        ("-1", "never negative"),
    ] {
        let message = error(metrics, &format!("{{\"a\": {{\"b\": {value}}}}}"));
        assert!(
            message.contains(problem) && message.ends_with("at $.a.b"),
            "{value}: {message}"
        );
    }
    let scaled = "[{name: m, value: $.a, scale: 1e300}]";
    assert!(error(scaled, r#"{"a": 1e300}"#).contains("not finite"));
}

#[test]
fn an_empty_list_is_no_mistake_but_an_absent_one_is() {
    let metrics = "[{name: m, each: '$.a[*].b[*]', value: '@', labels: {i: '{^~}-{@~}'}}]";
    for document in [
        r#"{"a": []}"#,
        r#"{"a": [{"b": []}]}"#,
        r#"{"a": [{"b": []}, {"b": {}}]}"#,
    ] {
        assert_eq!(apply(metrics, document).unwrap(), "", "{document}");
    }
    for document in ["{}", r#"{"a": null}"#, r#"{"a": 1}"#, r#"{"a": [{}]}"#] {
        assert!(
            error(metrics, document).contains("nothing at $.a[*].b[*]"),
            "{document}"
        );
    }
    let optional = "[{name: m, each: '$.a[*]', value: '@', optional: true}]";
    assert_eq!(apply(optional, "{}").unwrap(), "");
}

#[test]
fn two_samples_with_the_same_labels_are_refused() {
    // json_exporter issue 83
    let metrics = "[{name: lag, each: '$[*]', value: '@.lag', labels: {topic: '{@.topic}'}}]";
    let document = r#"[{"topic": "p", "lag": 1}, {"topic": "p", "lag": 2}]"#;
    assert!(error(metrics, document).starts_with("lag{topic=\"p\"} occurs twice"));
    let numbered = "[{name: lag, each: '$[*]', value: '@.lag', labels: {topic: '{@.topic}', n: '{@~}'}}]";
    assert_eq!(
        apply(numbered, document).unwrap(),
        "lag{n=\"0\",topic=\"p\"} 1\nlag{n=\"1\",topic=\"p\"} 2\n"
    );
}

#[test]
fn one_name_may_have_several_sources() {
    let metrics = r"
        - {name: v, help: x, value: $.a, labels: {of: a}}
        - {name: w, value: $.a}
        - {name: v, help: x, value: $.b, labels: {of: b}}
    ";
    assert_eq!(
        apply(metrics, r#"{"a": 1, "b": 2}"#).unwrap(),
        "v{of=\"a\"} 1\nv{of=\"b\"} 2\nw 1\n"
    );
}

#[test]
fn a_filter_stands_for_a_choice_of_value() {
    let metrics = "[{name: v, value: '$.list[?@.k == ''b''].v'}]";
    assert_eq!(
        apply(metrics, r#"{"list": [{"k": "a", "v": 1}, {"v": 2, "k": "b"}]}"#).unwrap(),
        "v 2\n"
    );
    assert!(error(metrics, r#"{"list": [{"k": "a", "v": 1}]}"#).contains("nothing at"));
}

#[test]
fn timestamps_and_creation_times_come_from_the_document() {
    let mapping = mapping_of(
        r"
        - {name: a_total, type: counter, value: $.n, created: {path: $.start}, timestamp: {path: $.at, unit: ms}}
        ",
    )
    .unwrap();
    let write = |document: &str| {
        let batch = mapping.apply(document.as_bytes(), "x=\"y\"", up_to(10)).unwrap();
        [Format::Text, Format::OpenMetrics].map(|format| {
            let mut encoder = Encoder::new(format, 0);
            encoder.batch(&mapping.families()[0], 0, &batch);
            encoder.finish()
        })
    };
    assert_eq!(
        write(r#"{"n": 5, "start": 1657568000.25, "at": "1657568506123"}"#),
        [
            "a_total{x=\"y\"} 5 1657568506123\n",
            "a_total{x=\"y\"} 5 1657568506.123\na_created{x=\"y\"} 1657568000.250\n# EOF\n"
        ]
    );
    assert_eq!(
        write(r#"{"n": 5, "start": "2022-07-11T22:26:40.25Z", "at": "2022-07-12T02:48:26.123+02:00"}"#)[1],
        "a_total{x=\"y\"} 5 1657586906.123\na_created{x=\"y\"} 1657578400.250\n# EOF\n"
    );
    assert_eq!(
        write(r#"{"n": 5}"#),
        ["a_total{x=\"y\"} 5\n", "a_total{x=\"y\"} 5\n# EOF\n"]
    );
    for document in [
        r#"{"n": 5, "start": -1}"#,
        r#"{"n": 5, "at": "soon"}"#,
        r#"{"n": 5, "at": 1e18}"#,
    ] {
        let failed = mapping.apply(document.as_bytes(), "", up_to(10)).unwrap_err();
        assert!(
            failed.to_string().contains("neither a time in RFC 3339 nor one in"),
            "{document}: {failed}"
        );
    }
}

#[test]
fn hostile_documents_are_refused() {
    let metrics = "[{name: v, value: $.v}]";
    let nested = |depth: usize| format!("{{\"v\": 1, \"x\": {}1{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(apply(metrics, &nested(99)).is_ok());
    for depth in [100, 127, 128, 1_000_000] {
        assert_eq!(
            error(metrics, &nested(depth)),
            "the body is nested deeper than 100 levels",
            "{depth}"
        );
    }
    for document in [r#"{"v": 1e999}"#, r#"{"v": 1, "x": [-1e999]}"#] {
        assert!(
            matches!(apply(metrics, document), Err(ExtractError::NotFinite(_))),
            "{document}"
        );
    }
    for document in [
        "",
        "{",
        r#"{"v": 1"#,
        r#"{"v": NaN}"#,
        r#"{"v": Infinity}"#,
        r#"{"v": 1} {"v": 2}"#,
        r#"{"v": 1,}"#,
        r#"{'v': 1}"#,
        r#"{"v": "\ud800"}"#,
        "<html></html>",
    ] {
        assert!(
            matches!(apply(metrics, document), Err(ExtractError::Malformed(_))),
            "{document}"
        );
    }
    assert!(matches!(
        mapping_of(metrics).unwrap().apply(b"{\"v\": \"\xff\"}", "", up_to(10)),
        Err(ExtractError::Malformed(_))
    ));
    let many = "[{name: v, each: '$[*]', value: 1, labels: {i: '{@~}'}}]";
    assert!(apply_with(many, "[1, 2, 3]", "", 3).is_ok());
    assert_eq!(apply_with(many, "[1, 2, 3, 4]", "", 3), Err(ExtractError::TooMany(3)));
}

/// A long text that is a label of each of many elements would be written as often.
#[test]
fn labels_may_not_grow_without_end() {
    let metrics = "[{name: v, each: '$.a[*]', value: '@', labels: {i: '{@~}', place: '{$.place}'}}]";
    let document = |length: usize| {
        format!(
            "{{\"place\": \"{}\", \"a\": [{}1]}}",
            "x".repeat(length),
            "1, ".repeat(99)
        )
    };
    assert!(apply(metrics, &document(10_000)).is_ok());
    assert_eq!(
        apply(metrics, &document(11_000)),
        Err(ExtractError::LabelsTooLong(1 << 20))
    );
}

/// What is the same for all elements is looked for once.
#[test]
fn elements_that_look_at_many_others_take_no_longer() {
    let metrics = r#"
        - name: v
          each: $.a[*]
          value: count($.b[*])
          labels: {i: '{@~}', found: '{$.b[?@.key == "none"].value}', last: '{$.b[-1].value}'}
    "#;
    let document = format!(
        "{{\"a\": [{}0], \"b\": [{}{{\"value\": 7}}]}}",
        "0, ".repeat(19_999),
        r#"{"key": "x"}, "#.repeat(9_999)
    );
    let began = std::time::Instant::now();
    let mapping = mapping_of(metrics).unwrap();
    let batch = mapping.apply(document.as_bytes(), "", up_to(50_000)).unwrap();
    assert_eq!(batch.family(0).len(), 20_000);
    assert_eq!(batch.family(0)[19_999].value, 10_000.0);
    assert!(
        batch
            .labels(&batch.family(0)[3])
            .contains("found=\"\",i=\"3\",last=\"7\"")
    );
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn the_caller_s_labels_come_first() {
    let metrics = "[{name: a, value: $.v}, {name: b, value: $.v, labels: {l: x}}]";
    assert_eq!(
        apply_with(metrics, r#"{"v": 1}"#, "target=\"t\"", 10).unwrap(),
        "a{target=\"t\"} 1\nb{target=\"t\",l=\"x\"} 1\n"
    );
}

#[test]
fn labels_are_escaped() {
    let metrics = "[{name: a, value: 1, labels: {l: '{$.l}', braces: '{{{$.n}}}'}}]";
    assert_eq!(
        apply(metrics, r#"{"l": "a\"b\\c\nd", "n": 1.5}"#).unwrap(),
        "a{braces=\"{1.5}\",l=\"a\\\"b\\\\c\\nd\"} 1\n"
    );
}

mod properties {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What the streaming reader finds is what a plain walk through the parsed document finds.
        #[test]
        fn reading_agrees_with_walking(document in document(), path in prop::collection::vec("[a-c]", 0..4)) {
            let written: String = path.iter().map(|name| format!(".{name}")).collect();
            let metrics = format!("[{{name: v, value: '${written}', optional: true}}]");
            let mapping = mapping_of(&metrics).unwrap();
            let found = path.iter().try_fold(&document, |value, name| value.get(name)).and_then(|value| match value {
                Value::Number(number) => number.as_f64(),
                Value::Bool(value) => Some(f64::from(u8::from(*value))),
                Value::String(text) => crate::mapping::number(text.trim()),
                _ => None,
            });
            let text = serde_json::to_vec(&document).unwrap();
            let read = mapping.apply(&text, "", up_to(10));
            match found {
                Some(number) => prop_assert_eq!(read.unwrap().family(0)[0].value, number),
                None => prop_assert!(read.is_err() || read.unwrap().family(0).is_empty()),
            }
        }

        /// Every iteration finds as many elements as there are.
        #[test]
        fn iterating_agrees_with_walking(document in document()) {
            fn children(value: &Value) -> Vec<&Value> {
                match value {
                    Value::Array(elements) => elements.iter().collect(),
                    Value::Object(members) => members.values().collect(),
                    _ => Vec::new(),
                }
            }
            let mapping = mapping_of("[{name: v, each: '$.*[*]', value: 1, labels: {l: '{^~} {@~}'}, optional: true}]").unwrap();
            let text = serde_json::to_vec(&document).unwrap();
            let expected: usize = children(&document).into_iter().map(|child| children(child).len()).sum();
            prop_assert_eq!(mapping.apply(&text, "", up_to(10_000)).unwrap().family(0).len(), expected);
        }

        /// Bytes that are no JSON never panic, and never give samples that nobody asked for.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mapping = mapping_of("[{name: v, each: '$[?@.a == 1]', value: '@.b', labels: {l: '{@.c}'}}]").unwrap();
            let read = mapping.apply(&bytes, "", up_to(10));
            prop_assert_eq!(read.is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok_and(|v| v.is_array() || v.is_object()) && read.is_ok());
        }

        /// Any label's value comes back from the text as it was.
        #[test]
        fn labels_and_values_survive_the_text(label in "\\PC{0,20}|[\\\\\"\n]{1,5}", value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let mapping = mapping_of("[{name: v, value: $.v, labels: {l: '{$.l}'}}]").unwrap();
            let batch = mapping.apply(&serde_json::to_vec(&json!({"v": value, "l": label})).unwrap(), "", up_to(10)).unwrap();
            let mut encoder = Encoder::new(Format::Text, 0);
            encoder.batch(&mapping.families()[0], 0, &batch);
            let text = encoder.finish();
            let inner = text.strip_prefix("v{l=\"").unwrap();
            let (written, number) = inner.rsplit_once("\"} ").unwrap();
            let unescaped = written.replace("\\\\", "\u{0}").replace("\\\"", "\"").replace("\\n", "\n").replace('\u{0}', "\\");
            prop_assert_eq!(unescaped, label);
            prop_assert_eq!(number.trim_end().parse::<f64>().unwrap(), value);
        }
    }
}
