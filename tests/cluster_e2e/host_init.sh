#!/bin/bash
# The first process of a machine: host_init.sh NAME ADDRESS FOLDER HOST_KEY PUBLIC_KEY
set -euo pipefail
name=$1 address=$2 folder=$3 host_key=$4 public_key=$5

home=$(getent passwd root | cut -d: -f6)

hostname "$name"
mount --make-rprivate /
mkdir -p "$folder/up" "$folder/work"
mount -t overlay overlay -o "lowerdir=$home,upperdir=$folder/up,workdir=$folder/work" "$home"
rm -rf "$home/.ray" "$home/.aws" "$home/.ssh"
cp "$folder/profile" "$home/.bash_profile"
printf '#\n' > "$home/.bashrc"

mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs -o size=2g tmpfs /dev/shm
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" > "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

mkdir -p /run/sshd
cat > "$folder/sshd_config" <<CONFIG
ListenAddress $address
HostKey $host_key
AuthorizedKeysFile $public_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PrintMotd no
MaxStartups 100
MaxSessions 100
PidFile none
CONFIG
/usr/sbin/sshd -D -e -f "$folder/sshd_config" &
wait $!
