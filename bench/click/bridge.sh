#!/bin/sh
# As hotplug.sh, but a vif becomes a port of the Linux bridge that its configuration names.
set -e
case "$1" in
add) # a disk
  loop=$(losetup -rf --show "$(xenstore-read "$XENBUS_PATH/params")")
  xenstore-write "$XENBUS_PATH/node" "$loop" "$XENBUS_PATH/physical-device" "7:${loop#/dev/loop}" ;;
remove)
  losetup -d "$(xenstore-read "$XENBUS_PATH/node")"
  exit ;;
online) # a vif
  ip link set "$vif" master "$(xenstore-read "$XENBUS_PATH/bridge")"
  ip link set "$vif" up ;;
offline) exit ;;
esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
