#!/bin/bash
# Creates, once, what cluster.yaml names: a bucket, two instance profiles, a security group, a key
# pair, and the token. Needs AWS's command line and an account with the permissions for it.
#   BUCKET=my-studies VPC=vpc-… SSH_FROM=10.8.0.0/16 cluster/aws_setup.sh
# BUCKET   name of the bucket to create, for records and checkpoints
# VPC      that the nodes will be in
# SSH_FROM addresses that `ray up` connects from: those of the VPN, or of a bastion
set -euo pipefail
: "${BUCKET:?the name of the bucket to create}"
: "${VPC:?the network of the nodes, vpc-…}"
: "${SSH_FROM:?the addresses of the VPN or bastion, such as 10.8.0.0/16}"
cd "$(dirname "$0")"
umask 077

region=$(aws configure get region)
if [ "$region" = us-east-1 ]; then
    aws s3api create-bucket --bucket "$BUCKET" > /dev/null
else
    aws s3api create-bucket --bucket "$BUCKET" \
        --create-bucket-configuration "{\"LocationConstraint\": \"$region\"}" > /dev/null
fi
aws s3api put-public-access-block --bucket "$BUCKET" --public-access-block-configuration \
    '{"BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true}'

for role in head worker; do
    aws iam create-role --role-name "syn2real-$role" \
        --assume-role-policy-document "$(cat iam/trust.json)" > /dev/null
    aws iam put-role-policy --role-name "syn2real-$role" --policy-name storage \
        --policy-document "$(sed "s/BUCKET/$BUCKET/" iam/storage.json)"
    aws iam create-instance-profile --instance-profile-name "syn2real-$role" > /dev/null
    aws iam add-role-to-instance-profile --instance-profile-name "syn2real-$role" \
        --role-name "syn2real-$role"
done
aws iam put-role-policy --role-name syn2real-head --policy-name workers \
    --policy-document "$(cat iam/head.json)"

# Nodes can reach each other, you can reach them by ssh, and nothing else is admitted.
group=$(aws ec2 create-security-group --group-name syn2real --description "Nodes of studies" \
    --vpc-id "$VPC" --query GroupId --output text)
aws ec2 authorize-security-group-ingress --group-id "$group" --ip-permissions \
    "[{\"IpProtocol\": \"-1\", \"UserIdGroupPairs\": [{\"GroupId\": \"$group\"}]},
      {\"IpProtocol\": \"tcp\", \"FromPort\": 22, \"ToPort\": 22, \"IpRanges\": [{\"CidrIp\": \"$SSH_FROM\"}]}]" \
    > /dev/null

if [ ! -e ~/.ssh/syn2real ]; then
    mkdir -p ~/.ssh
    ssh-keygen -q -t ed25519 -N '' -C syn2real -f ~/.ssh/syn2real
fi
aws ec2 import-key-pair --key-name syn2real \
    --public-key-material "fileb://$HOME/.ssh/syn2real.pub" > /dev/null

if [ ! -s ~/.ray/auth_token ]; then
    ray get-auth-token --generate > /dev/null
fi
chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

echo "For cluster.yaml: region $region, SecurityGroupIds [$group]; storage: s3://$BUCKET"
