"""MediSync FL: federated learning for brain-tumour MRI, from hospital folders to a model that can be questioned.

Data flows one way, through one package per stage:

    data/         hospital folders -> AuditRecord -> SplitRecord -> caches of standardised images
    federation/   caches -> global weights; training/ is one hospital in one round, on the network of model/
    evaluation/   weights and test images -> metrics with intervals; calibration uses validation images only
    workspace/    all of these -> a run on disk
    inference/    a run and a scan -> prediction, explanation
    reporting/    a run -> tables, charts, documents, shown by dashboard/

`pipeline` drives these stages for the notebook, `network/` between hospitals, `cli/` from the shell. phantom/ draws
synthetic hospitals. Research use only; nothing here is a medical device.
"""
