//! A reader of IAM policies, as far as those of `mfsre iam-policy` go.

use serde_json::Value;

/// Whether `policy` allows `action` on `resource`; none stands for an action that is about nothing in particular.
/// Conditions count as met.
pub(crate) fn allows(policy: &Value, action: &str, resource: Option<&str>) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    policy["Statement"].as_array().unwrap().iter().any(|statement| {
        assert_eq!(statement["Effect"], "Allow");
        let resources = texts(&statement["Resource"]);
        texts(&statement["Action"]).iter().any(|a| a == action)
            && resources.iter().any(|pattern| match resource {
                Some(resource) => matches(pattern, resource),
                None => pattern == "*",
            })
    })
}

/// `*` stands for any characters, `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        for i in 0..=text.len() {
            next[i] = match p {
                '*' => reached[i] || (i > 0 && next[i - 1]),
                '?' => i > 0 && reached[i - 1],
                c => i > 0 && reached[i - 1] && text[i - 1] == c,
            };
        }
        reached = next;
    }
    reached[text.len()]
}

#[test]
fn wildcards_match_as_iam_has_them() {
    assert!(matches(
        "arn:aws:eks:*:*:cluster/demo",
        "arn:aws:eks:eu-west-1:1:cluster/demo"
    ));
    assert!(matches("secret:demo/argocd-??????", "secret:demo/argocd-AbCdEf"));
    assert!(!matches(
        "secret:demo/argocd-??????",
        "secret:demo/argocd-staging-AbCdEf"
    ));
    assert!(!matches("cluster/demo", "cluster/demo2"));
}
