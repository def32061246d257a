use axum::http::HeaderValue;
use serde::Deserialize;

/// Which part of a list a request wants.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Page {
    per_page: Option<usize>,
    page: Option<usize>,
}

impl Page {
    /// 30 unless told otherwise, and never more than 100.
    fn size(self) -> usize {
        self.per_page.filter(|size| *size > 0).unwrap_or(30).min(100)
    }

    /// Counted from 1.
    fn number(self) -> usize {
        self.page.unwrap_or(1).max(1)
    }

    /// That part of the list.
    pub(super) fn of<T>(self, list: Vec<T>) -> Vec<T> {
        let skipped = self.size().saturating_mul(self.number() - 1);
        list.into_iter().skip(skipped).take(self.size()).collect()
    }

    /// The `Link` header: none where everything fits on one page, else the neighbours and the ends.
    pub(super) fn link(self, url: &str, total: usize) -> Option<HeaderValue> {
        let (size, number) = (self.size(), self.number());
        let last = total.div_ceil(size).max(1);
        let mut links = Vec::new();
        let mut link = |page: usize, relation: &str| {
            links.push(format!("<{url}?per_page={size}&page={page}>; rel=\"{relation}\""));
        };
        if number > 1 {
            link((number - 1).min(last), "prev");
        }
        if number < last {
            link(number + 1, "next");
            link(last, "last");
        }
        if number > 1 {
            link(1, "first");
        }
        if links.is_empty() {
            None
        } else {
            HeaderValue::from_str(&links.join(", ")).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    fn link(per_page: usize, page: usize, total: usize) -> String {
        let page = Page {
            per_page: Some(per_page),
            page: Some(page),
        };
        page.link("u", total)
            .map(|link| link.to_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn links_lead_through_all_pages() {
        assert_eq!(link(10, 1, 10), "");
        assert_eq!(
            link(2, 1, 5),
            r#"<u?per_page=2&page=2>; rel="next", <u?per_page=2&page=3>; rel="last""#
        );
        assert_eq!(
            link(2, 2, 5),
            r#"<u?per_page=2&page=1>; rel="prev", <u?per_page=2&page=3>; rel="next", <u?per_page=2&page=3>; rel="last", <u?per_page=2&page=1>; rel="first""#
        );
        assert_eq!(
            link(2, 3, 5),
            r#"<u?per_page=2&page=2>; rel="prev", <u?per_page=2&page=1>; rel="first""#
        );
    }

    #[test]
    fn sizes_stay_within_github_s_limits() {
        let numbers: Vec<usize> = (0..150).collect();
        assert_eq!(Page::default().of(numbers.clone()).len(), 30);
        assert_eq!(
            Page {
                per_page: Some(1000),
                page: None
            }
            .of(numbers.clone())
            .len(),
            100
        );
        assert_eq!(
            Page {
                per_page: Some(0),
                page: Some(0)
            }
            .of(numbers.clone())
            .len(),
            30
        );
        assert_eq!(
            Page {
                per_page: Some(100),
                page: Some(2)
            }
            .of(numbers.clone()),
            (100..150).collect::<Vec<_>>()
        );
        assert!(
            Page {
                per_page: Some(100),
                page: Some(usize::MAX)
            }
            .of(numbers)
            .is_empty()
        );
    }
}
