/* The elements that know IP: a line here for each, and its name in the table. */
#include "element.h"

extern const struct element_class class_check_icmp_header, class_check_ip_header, class_check_tcp_header, class_check_udp_header, class_ip6_classifier, class_ip6_filter,
    class_ip_classifier, class_ip_filter, class_mark_ip_header;

const struct element_class *const element_classes_ip[] = {&class_check_icmp_header, &class_check_ip_header, &class_check_tcp_header, &class_check_udp_header, &class_ip6_classifier,
                                                          &class_ip6_filter, &class_ip_classifier, &class_ip_filter, &class_mark_ip_header, NULL};
