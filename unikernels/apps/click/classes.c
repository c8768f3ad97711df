/* The elements that know of frames only: a line here for each, and its name in the table. */
#include "element.h"

extern const struct element_class class_arp_querier, class_arp_responder, class_average_counter, class_bandwidth_meter, class_bandwidth_shaper, class_check_paint,
    class_classifier, class_counter, class_discard, class_drop_broadcasts, class_ether_encap, class_ether_mirror, class_from_device,
    class_host_ether_filter, class_idle, class_infinite_source, class_meter, class_null, class_paint, class_paint_switch, class_paint_tee,
    class_print, class_prio_sched, class_queue, class_random_sample, class_rated_source, class_round_robin_sched, class_shaper, class_strip,
    class_switch, class_tee, class_time_filter, class_to_device, class_unqueue, class_unstrip;

const struct element_class *const element_classes[] = {
    &class_arp_querier, &class_arp_responder, &class_average_counter, &class_bandwidth_meter, &class_bandwidth_shaper, &class_check_paint,
    &class_classifier, &class_counter, &class_discard, &class_drop_broadcasts, &class_ether_encap, &class_ether_mirror, &class_from_device,
    &class_host_ether_filter, &class_idle, &class_infinite_source, &class_meter, &class_null, &class_paint, &class_paint_switch,
    &class_paint_tee, &class_print, &class_prio_sched, &class_queue, &class_random_sample, &class_rated_source, &class_round_robin_sched,
    &class_shaper, &class_strip, &class_switch, &class_tee, &class_time_filter, &class_to_device, &class_unqueue, &class_unstrip, NULL};

static const struct element_class *find(const struct element_class *const *table, struct slice name) {
  for (; *table != NULL; table++) {
    if (strlen((*table)->name) == name.length && memcmp((*table)->name, name.at, name.length) == 0) return *table;
  }
  return NULL;
}

const struct element_class *element_class_find(struct slice name) {
  const struct element_class *class = find(element_classes, name);
  return class != NULL ? class : find(element_classes_ip, name);
}
