use axum::http::Method;

/// The operations that rules or readers of the log care about, by method and path (Amazon EKS API Reference). `*`
/// stands for one segment.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/clusters", "CreateCluster"),
    ("GET", "/clusters", "ListClusters"),
    ("GET", "/clusters/*", "DescribeCluster"),
    ("DELETE", "/clusters/*", "DeleteCluster"),
    ("POST", "/clusters/*/updates", "UpdateClusterVersion"),
    ("GET", "/clusters/*/updates", "ListUpdates"),
    ("GET", "/clusters/*/updates/*", "DescribeUpdate"),
    ("POST", "/clusters/*/update-config", "UpdateClusterConfig"),
    (
        "POST",
        "/clusters/*/encryption-config/associate",
        "AssociateEncryptionConfig",
    ),
    ("POST", "/clusters/*/node-groups", "CreateNodegroup"),
    ("GET", "/clusters/*/node-groups", "ListNodegroups"),
    ("GET", "/clusters/*/node-groups/*", "DescribeNodegroup"),
    ("DELETE", "/clusters/*/node-groups/*", "DeleteNodegroup"),
    (
        "POST",
        "/clusters/*/node-groups/*/update-config",
        "UpdateNodegroupConfig",
    ),
    (
        "POST",
        "/clusters/*/node-groups/*/update-version",
        "UpdateNodegroupVersion",
    ),
    ("POST", "/clusters/*/addons", "CreateAddon"),
    ("GET", "/clusters/*/addons", "ListAddons"),
    ("GET", "/clusters/*/addons/*", "DescribeAddon"),
    ("DELETE", "/clusters/*/addons/*", "DeleteAddon"),
    ("POST", "/clusters/*/addons/*/update", "UpdateAddon"),
    ("GET", "/addons/supported-versions", "DescribeAddonVersions"),
    ("GET", "/addons/configuration-schemas", "DescribeAddonConfiguration"),
    ("GET", "/cluster-versions", "DescribeClusterVersions"),
    ("POST", "/clusters/*/access-entries", "CreateAccessEntry"),
    ("GET", "/clusters/*/access-entries", "ListAccessEntries"),
    ("GET", "/clusters/*/access-entries/*", "DescribeAccessEntry"),
    ("POST", "/clusters/*/access-entries/*", "UpdateAccessEntry"),
    ("DELETE", "/clusters/*/access-entries/*", "DeleteAccessEntry"),
    (
        "POST",
        "/clusters/*/access-entries/*/access-policies",
        "AssociateAccessPolicy",
    ),
    (
        "GET",
        "/clusters/*/access-entries/*/access-policies",
        "ListAssociatedAccessPolicies",
    ),
    (
        "DELETE",
        "/clusters/*/access-entries/*/access-policies/*",
        "DisassociateAccessPolicy",
    ),
    (
        "POST",
        "/clusters/*/pod-identity-associations",
        "CreatePodIdentityAssociation",
    ),
    (
        "GET",
        "/clusters/*/pod-identity-associations",
        "ListPodIdentityAssociations",
    ),
    (
        "GET",
        "/clusters/*/pod-identity-associations/*",
        "DescribePodIdentityAssociation",
    ),
    (
        "POST",
        "/clusters/*/pod-identity-associations/*",
        "UpdatePodIdentityAssociation",
    ),
    (
        "DELETE",
        "/clusters/*/pod-identity-associations/*",
        "DeletePodIdentityAssociation",
    ),
    ("POST", "/tags/*", "TagResource"),
    ("GET", "/tags/*", "ListTagsForResource"),
    ("DELETE", "/tags/*", "UntagResource"),
];

/// The operation of a request to EKS.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static str> {
    let matches = |route: &str| {
        let (mut pattern, mut segments) = (route.split('/'), path.split('/'));
        loop {
            match (pattern.next(), segments.next()) {
                (None, None) => return true,
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(expected), Some(segment)) if expected == segment => {}
                _ => return false,
            }
        }
    };
    ROUTES
        .iter()
        .find(|(verb, route, _)| method.as_str() == *verb && matches(route))
        .map(|(_, _, operation)| *operation)
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::find;

    #[test]
    fn routes_are_told_apart() {
        for (method, path, operation) in [
            (Method::GET, "/clusters/demo", Some("DescribeCluster")),
            (Method::GET, "/clusters/demo/node-groups/a", Some("DescribeNodegroup")),
            (Method::GET, "/clusters/demo/updates/1-2", Some("DescribeUpdate")),
            (
                Method::DELETE,
                "/clusters/demo/access-entries/arn%3Aa%2Fb",
                Some("DeleteAccessEntry"),
            ),
            (Method::GET, "/clusters/", None),
            (Method::GET, "/clusters/demo/other", None),
            (Method::PATCH, "/clusters/demo", None),
        ] {
            assert_eq!(find(&method, path), operation, "{method} {path}");
        }
    }
}
