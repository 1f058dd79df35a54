"""MediSync FL: federated learning for brain-tumour MRI, from hospital folders to a model one can question.

The data flows one way, stage by stage:

    hospital folders --audit--> AuditRecord          what is there, what is copied, what is unusable
    AuditRecord --splits--> SplitRecord              train / val / test by group, no leak
    SplitRecord --images--> uint8 caches             decoded once
    caches --federation/training--> global weights   every round: train locally, average, validate
    weights + test caches --evaluation--> Metrics    with intervals; calibration from validation
    all of these --artifacts--> a run on disk        what dashboard/ and inference read

Research use only; nothing here is a medical device.
"""
