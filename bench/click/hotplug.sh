#!/bin/sh
# What xl runs for the devices of the benchmark's guests, in place of Xen's scripts, which take longer than xl waits when dom0 is emulated: a file
# on a loop device; a vif into the namespace that has its guest's name, or where there is none a port of the bridge that its configuration names.
set -e
case "$1" in
add) # a disk
  loop=$(losetup -rf --show "$(xenstore-read "$XENBUS_PATH/params")")
  xenstore-write "$XENBUS_PATH/node" "$loop" "$XENBUS_PATH/physical-device" "7:${loop#/dev/loop}" ;;
remove)
  losetup -d "$(xenstore-read "$XENBUS_PATH/node")"
  exit ;;
online) # a vif
  domain=${vif#vif}
  space=$(xenstore-read "/local/domain/${domain%.*}/name")
  if [ -e "/run/netns/$space" ]; then
    ip link set "$vif" netns "$space"
    ip -n "$space" link set "$vif" up
  else
    ip link set "$vif" master "$(xenstore-read "$XENBUS_PATH/bridge")"
    ip link set "$vif" up
  fi ;;
offline) exit ;;
esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
