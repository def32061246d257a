use super::Rule;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "ec2_security_group_ports",
    service: "ec2",
    operations: &[
        "AuthorizeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupEgress",
        "RevokeSecurityGroupIngress",
    ],
    reason: "the emulator compares the ports of a rule for all protocols, which AWS ignores: revoking the default rule of a \
             new group, as Terraform does, finds none and leaves the group open",
    apply: |context, request| Box::pin(context.ask(without_ports_of_all(request))),
};

/// Removes the ports where the protocol is -1 ("IpPermission", Amazon EC2 API Reference).
fn without_ports_of_all(request: Request) -> Request {
    let mut form = request.form();
    let all: Vec<String> = form
        .iter()
        .filter(|(_, value)| value == "-1")
        .filter_map(|(name, _)| name.strip_suffix("IpProtocol").map(str::to_owned))
        .collect();
    form.retain(|(name, _)| {
        let permission = name.strip_suffix("FromPort").or_else(|| name.strip_suffix("ToPort"));
        permission.is_none_or(|permission| !all.iter().any(|other| other == permission))
    });
    request.with_form(&form)
}

#[cfg(test)]
mod tests {
    use super::without_ports_of_all;
    use crate::services::aws_proxy::tests::request;

    #[test]
    fn only_the_ports_of_all_protocols_go() {
        let form = "Action=RevokeSecurityGroupEgress&GroupId=sg-1&IpPermissions.1.IpProtocol=-1&IpPermissions.1.FromPort=0\
                    &IpPermissions.1.ToPort=0&IpPermissions.2.IpProtocol=tcp&IpPermissions.2.FromPort=443&IpPermissions.2.ToPort=443";
        let changed = without_ports_of_all(request("ec2", "POST", "/", form));
        let expected = "Action=RevokeSecurityGroupEgress&GroupId=sg-1&IpPermissions.1.IpProtocol=-1\
                        &IpPermissions.2.IpProtocol=tcp&IpPermissions.2.FromPort=443&IpPermissions.2.ToPort=443";
        assert_eq!(changed.body, expected);
    }

    #[test]
    fn a_single_rule_without_a_list_too() {
        let changed = without_ports_of_all(request(
            "ec2",
            "POST",
            "/",
            "IpProtocol=-1&FromPort=0&ToPort=0&CidrIp=0.0.0.0%2F0",
        ));
        assert_eq!(changed.body, "IpProtocol=-1&CidrIp=0.0.0.0%2F0");
    }
}
