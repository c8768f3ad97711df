/* The elements that know IP: a line here for each, and its name in the table. */
#include "element.h"

extern const struct element_class class_check_icmp_header, class_check_ip6_header, class_check_ip_header, class_check_tcp_header,
    class_check_udp_header, class_dec_ip6_hlim, class_dec_ip_ttl, class_fix_ip_src, class_get_ip6_address, class_get_ip_address, class_icmp_error,
    class_icmp_ping_responder, class_icmp_ping_rewriter, class_ip6_classifier, class_ip6_filter, class_ip_classifier, class_ip_filter,
    class_ip_fragmenter, class_ip_gw_options, class_ip_rewriter, class_linear_ip_lookup, class_lookup_ip6_route, class_mark_ip_header,
    class_radix_ip_lookup, class_round_robin_ip_mapper, class_set_ip_address, class_set_ip_checksum, class_set_ip_dscp, class_set_ip_ecn,
    class_set_tcp_checksum, class_set_udp_checksum, class_source_ip_hash_mapper, class_static_ip_lookup, class_store_ip_address, class_tcp_rewriter,
    class_udp_rewriter;

const struct element_class *const element_classes_ip[] = {
    &class_check_icmp_header, &class_check_ip6_header, &class_check_ip_header, &class_check_tcp_header, &class_check_udp_header, &class_dec_ip6_hlim,
    &class_dec_ip_ttl, &class_fix_ip_src, &class_get_ip6_address, &class_get_ip_address, &class_icmp_error, &class_icmp_ping_responder,
    &class_icmp_ping_rewriter, &class_ip6_classifier, &class_ip6_filter, &class_ip_classifier, &class_ip_filter, &class_ip_fragmenter,
    &class_ip_gw_options, &class_ip_rewriter, &class_linear_ip_lookup, &class_lookup_ip6_route, &class_mark_ip_header, &class_radix_ip_lookup,
    &class_round_robin_ip_mapper, &class_set_ip_address, &class_set_ip_checksum, &class_set_ip_dscp, &class_set_ip_ecn, &class_set_tcp_checksum,
    &class_set_udp_checksum, &class_source_ip_hash_mapper, &class_static_ip_lookup, &class_store_ip_address, &class_tcp_rewriter, &class_udp_rewriter,
    NULL};
